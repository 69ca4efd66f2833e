"""Dead letters for an operator's pages: grouped by reason, and a page at a time."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from pattern_storage.storage import dead_letters
from pattern_storage.storage.dead_letters import LetterFilter
from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block

#: Characters that a list reads of a contract, enough to find its operation and pattern.
CHARACTERS = 2_000
#: Groups in a list at most.
GROUPS = 200
#: Newest letters that are grouped: to take their reasons apart takes a second for a hundred thousand.
GROUPED = 5_000


#: Newest letters that a page looks at: no index has what most filters ask for.
SEARCHED = 10_000

#: Where a letter is in the list: when it died, and its id.
Place = tuple[datetime, UUID]


@dataclass(frozen=True)
class LetterGroup:
    """Dead letters with the same error type, and the same reason but for names and numbers in it."""

    error_type: str
    reason: str
    letters: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class ListedLetter:
    """A dead letter in a list: the beginning of its contract's text, and the bytes of all of it."""

    correlation_id: UUID
    beginning: str
    size: int
    error_type: str
    error: str
    attempts: int
    first_at: datetime
    died_at: datetime


@dataclass(frozen=True)
class LetterPage:
    """Letters of a page, and the place behind which the next one begins; None at the end.

    A page with a next one may have fewer letters than asked for, or none, when it has looked at SEARCHED of them.
    `is_full` says whether it has all that were asked for.
    """

    letters: list[ListedLetter]
    next: Place | None
    is_full: bool


async def groups(connection: Connection) -> list[LetterGroup]:
    """Return the groups of the newest GROUPED letters, the largest first."""
    values = {"limit": GROUPS, "newest": GROUPED}
    return await fetch_all(connection, class_row(LetterGroup), block("letter_groups"), values)


async def page(
    connection: Connection, wanted: LetterFilter, *, after: Place | None = None, limit: int = 50
) -> LetterPage:
    """Return a page, the newest first; `after` is the place of the last letter of the page before."""
    end = await _find_end(connection, wanted, after)
    values = vars(_since(wanted, end)) | _behind(after) | {"characters": CHARACTERS, "limit": limit + 1}
    letters = await fetch_all(connection, class_row(ListedLetter), block("list_letters"), values)
    if len(letters) > limit:
        return LetterPage(letters[:limit], (letters[limit - 1].died_at, letters[limit - 1].correlation_id), True)
    # All that died at that moment were looked at.
    return LetterPage(letters, None if end is None else (end, UUID(int=0)), end is None)


async def estimate(connection: Connection, wanted: LetterFilter, *, limit: int) -> tuple[int, bool]:
    """Return how many letters there are at least, counted up to a limit, and whether there are no more."""
    end = await _find_end(connection, wanted, None)
    count = await dead_letters.count(connection, _since(wanted, end), limit=limit)
    return count, end is None and count < limit


async def _find_end(connection: Connection, wanted: LetterFilter, after: Place | None) -> datetime | None:
    """Return when the last letter died that is looked at; None if these are all, or they are found by their ids."""
    if wanted.ids is not None:
        return None
    values = {"since": wanted.since, "until": wanted.until, "searched": SEARCHED - 1} | _behind(after)
    end: datetime | None = await fetch_value(connection, block("end_of_letter_search"), values)
    return end


def _behind(after: Place | None) -> dict[str, Any]:
    return {"after": after and after[0], "after_id": after and after[1]}


def _since(wanted: LetterFilter, end: datetime | None) -> LetterFilter:
    return wanted if end is None else replace(wanted, since=end)
