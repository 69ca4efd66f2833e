"""Page of the dead letters: groups by reason, a list by filter, replay and discard."""

import json
from contextlib import suppress
from datetime import UTC, datetime

from pattern_storage.config.flower_roles import Role
from pattern_storage.storage import dead_letter_pages, dead_letters
from pattern_storage.storage.dead_letter_pages import ListedLetter
from pattern_storage.storage.dead_letters import Entry, LetterFilter
from pattern_storage.tasks.dead_letter_replay import read_contracts
from pattern_storage.tasks.description import describe_contract
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.tasks.flower.pages.actions import ActionHandler, Question
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.vocabulary import OperationName

#: A query is never a dead letter, and a run of an import has a page of its own.
OPERATIONS = tuple(operation for operation in OperationName if operation != OperationName.QUERY)

#: Letters on a page.
PAGE = 50

#: Letters are counted up to here, except for a question, which says how many an action is about.
COUNT_LIMIT = 10_000


def describe_letter(letter: ListedLetter) -> str:
    """Return a line about a letter's job, or the length of a contract that is too long to be read whole."""
    with suppress(ValueError, RecursionError):
        contract = json.loads(letter.beginning)
        if isinstance(contract, dict):
            return describe_contract(str(contract.get("operation")), contract)
    return f"a contract of {letter.size:,} characters"


class LettersHandler(PageHandler):
    """Base of list and actions, which have the same filter."""

    tab = "dead-letters"
    filter_names = ("id", "error_type", "reason", "operation", "name", "since", "until")

    def wanted(self) -> LetterFilter:
        """Return the filter of the URL or the form. Raises HTTPError 400."""
        letter = self.identifier("id")
        return LetterFilter(
            ids=[letter] if letter else None, error_type=self.parameter("error_type") or None,
            reason=self.parameter("reason") or None, operation=self.choice("operation", OPERATIONS) or None,
            pattern_name=self.parameter("name") or None, since=self.moment("since"), until=self.moment("until"),
        )  # fmt: skip


class DeadLettersPage(LettersHandler):
    """The list, GET /dead-letters."""

    async def get(self) -> None:
        """Show groups, and the letters that match the filter."""
        wanted, filters = self.wanted(), self.filters()
        after_id, after = self.identifier("after_id"), self.moment("after")
        position = (after, after_id) if after and after_id else None
        groups = await self.backend.run(dead_letter_pages.groups)
        page = await self.backend.run(dead_letter_pages.page, wanted=wanted, after=position, limit=PAGE)
        total, counted = await self.backend.run(dead_letter_pages.estimate, wanted=wanted, limit=COUNT_LIMIT)
        following = None
        if page.next is not None:
            died_at, last = page.next
            following = filters | {"after": died_at.isoformat(), "after_id": last}
        self.page(
            "dead_letters.html", groups=groups, letters=page.letters, total=total, counted=counted, filters=filters,
            searched=None if page.is_full else dead_letter_pages.SEARCHED, describe_letter=describe_letter,
            operations=OPERATIONS, grouped=dead_letter_pages.GROUPED, following=following,
        )  # fmt: skip


class LetterAction(LettersHandler, ActionHandler):
    """An action on all letters that match a filter."""

    #: Name of the action in the audit.
    action = ""

    async def question(self) -> Question:
        """Say how many there are."""
        filters = self.filters()
        count = await self.backend.run(dead_letters.count, wanted=self.wanted(), limit=None)
        return Question(
            f"{self.verb} {formatting.plural(count, 'dead letter')}?",
            back=self.href("dead-letters", **filters),
            about=self._about(),
            fields=self.filters_until(datetime.now(UTC)),
            count=count,
        )

    def _about(self) -> dict[str, str]:
        return self.filters() or {"filter": "none: every dead letter"}

    def back(self, count: int) -> str:
        """Lead to the list."""
        return self.href("dead-letters", did=self.past, count=count)

    async def act(self) -> int:
        """Act on the letters that were there when the question was asked, each page with its audit entry."""
        wanted, total, last = self.wanted(), 0, None
        while entries := await self.backend.run(dead_letters.page, wanted=wanted, after=last):
            if count := await self.act_on(entries):
                await self.operator.record(self.action, self._about(), count)
            total, last = total + count, entries[-1]
        return total

    async def act_on(self, entries: list[Entry]) -> int:
        """Act on a page of letters, and return on how many."""
        raise NotImplementedError


class ReplayLetters(LetterAction):
    """Replay, GET and POST /dead-letters/replay."""

    needed_role = Role.OPERATOR
    verb, past, action = "Replay", "replayed", "replay dead letters"
    consequence = (
        "Each job is sent again under its own correlation id, and stays a dead letter until it is done. If it fails"
        " again, it is listed here again."
    )

    async def act_on(self, entries: list[Entry]) -> int:
        """Send the letters again, as many at a time as fit in memory."""
        sent = 0
        for chunk in dead_letters.chunks(entries):
            letters = await self.backend.run(dead_letters.fetch, ids=chunk)
            contracts, _ = read_contracts(letters)
            sent_again = [contract.correlation_id for contract in contracts]
            await self.backend.run(dead_letters.note_replay, ids=sent_again)
            await self.backend.in_thread(self.backend.client.submit_again, contracts)
            sent += len(contracts)
        return sent


class DiscardLetters(LetterAction):
    """Discard, GET and POST /dead-letters/discard."""

    needed_role = Role.ADMIN
    verb, past, action, dangerous = "Discard", "discarded", "discard dead letters", True
    consequence = "They are removed for good, with their contracts, and cannot be replayed any more."

    async def act_on(self, entries: list[Entry]) -> int:
        """Remove the letters."""
        return await self.backend.run(dead_letters.discard, ids=[entry.correlation_id for entry in entries])
