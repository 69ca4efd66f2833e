"""Commands for jobs that used up their attempts: dead-letters list, show, replay, discard."""

import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain
from math import inf
from types import MappingProxyType
from typing import Annotated, Any
from uuid import UUID

import typer

from pattern_storage.storage import dead_letters
from pattern_storage.storage.dead_letters import PAGE_SIZE, DeadLetter, Entry, LetterFilter
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.tasks.cli.exits import Exit, InputInvalid
from pattern_storage.tasks.cli.interrupts import explain_interrupt
from pattern_storage.tasks.cli.operator import act_on, check_not_empty, confirm, query, read_filter, report_count
from pattern_storage.tasks.cli.options import DryRun, ErrorTypeOption, Ids, Json, Yes
from pattern_storage.tasks.cli.output import err, plural, print_json
from pattern_storage.tasks.cli.tables import print_list, print_pairs
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.database import run_sync
from pattern_storage.tasks.dead_letter_replay import read_contracts
from pattern_storage.tasks.description import describe_contract

cli = typer.Typer(help="Jobs that ran out of attempts, kept until someone replays or discards them.")

#: The operation of a contract that cannot be read as JSON.
OPERATION = re.compile(r'"operation"\s*:\s*"(\w{1,30})"')

#: Names of columns, and the values that they should have.
Filter = Mapping[str, Any]

Operation = Annotated[str | None, typer.Option(help="insert, update, delete or batch_insert.")]
Name = Annotated[str | None, typer.Option(help="Exact name of the pattern.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]


@cli.command("list")
def list_letters(
    error_type: ErrorTypeOption = None,
    operation: Operation = None,
    name: Name = None,
    limit: Annotated[int, typer.Option(min=0, help="How many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """List dead letters, the newest first."""
    letters = list(chain.from_iterable(_fetch(None, _filter(error_type, operation, name), limit)))
    if as_json:
        print_json([_plain(letter) for letter in letters])
        return
    rows = [
        (letter.correlation_id, letter.error_type, _about(letter), letter.died_at, letter.attempts)
        for letter in letters
    ]  # fmt: skip
    columns = ("correlation id", "error type", "job", "died (UTC)", "attempts")
    print_list(columns, rows, title=plural(len(rows), "dead letter"))


@cli.command()
def show(correlation_id: Annotated[UUID, typer.Argument(metavar="CORRELATION_ID")], as_json: Json = False) -> None:
    """Show one dead letter with its contract."""
    letter = next(chain.from_iterable(_fetch([correlation_id])), None)
    if letter is None:
        raise _unknown([correlation_id])
    print_json(_plain(letter)) if as_json else print_pairs(_plain(letter), title=_about(letter))


@cli.command()
def replay(
    ids: Ids = None,
    error_type: ErrorTypeOption = None,
    operation: Operation = None,
    name: Name = None,
    every: All = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send jobs again under their own correlation id. They stay dead letters until they are done: nothing is lost."""
    wanted = _filter(error_type, operation, name)
    _check_selection(ids, wanted, every)
    found, report = 0, Report("replayed", "replay dead letters", wanted, dry_run, as_json)
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(explain_interrupt())
        client = None if dry_run else stack.enter_context(PatternStorageClient())
        for letters in _fetch(ids, wanted):
            contracts, errors = read_contracts(letters)
            for correlation_id, error in errors.items():
                err.print(f"{correlation_id} cannot be replayed: {error}")
            replayed = [contract.correlation_id for contract in contracts]
            if client is not None:
                query(partial(dead_letters.note_replay, ids=replayed))
                client.submit_again(contracts)
            report.add(replayed)
            found += len(letters)
    report.end()
    if len(report.ids) < found:
        raise typer.Exit(Exit.FAILED)


@cli.command()
def discard(
    ids: Ids = None,
    error_type: ErrorTypeOption = None,
    operation: Operation = None,
    name: Name = None,
    every: All = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove dead letters for good: those named, or all that match the options, after asking."""
    wanted = _filter(error_type, operation, name)
    _check_selection(ids, wanted, every)
    if not ids and not dry_run:
        count = query(partial(dead_letters.count, wanted=LetterFilter(**wanted), limit=None))
        if count:
            confirm(f"{plural(count, 'dead letter')} would be removed for good.", yes=yes)
    report = Report("discarded", "discard dead letters", wanted, dry_run, as_json)
    for entries in _entries(ids, wanted):
        discarded = [entry.correlation_id for entry in entries]
        if not dry_run:
            query(partial(dead_letters.discard, ids=discarded))
        report.add(discarded)
    report.end()


class Report:
    """The dead letters that a command has acted on: printed page by page for a script, and written to the audit."""

    def __init__(self, done: str, action: str, wanted: Filter, dry_run: bool, as_json: bool) -> None:
        self._done, self._action, self._wanted = done, action, wanted
        self._dry_run, self._as_json = dry_run, as_json
        self.ids: list[str] = []

    def add(self, page: Sequence[UUID]) -> None:
        """Add a page of them."""
        ids = [str(job) for job in page]
        self.ids += ids
        if ids and not self._dry_run:
            run_sync(act_on().record(self._action, self._wanted or {"jobs": ids}, len(ids)))
        if not self._as_json:
            for job in ids:
                print(job)  # noqa: T201
            sys.stdout.flush()

    def end(self) -> None:
        """Print how many there were."""
        count = len(self.ids)
        report_count(self._done, count, dry_run=self._dry_run, as_json=self._as_json, correlation_ids=self.ids)


def _filter(error_type: str | None, operation: str | None, name: str | None) -> Filter:
    """Return the filter of the options, by columns. Raises FilterInvalid."""
    wanted = read_filter(operation=operation, name=name).to_dict()
    check_not_empty("--error-type", error_type)
    # Letters of another release may have an error_type that is none of ours.
    return wanted if error_type is None else wanted | {"error_type": error_type}


def _entries(ids: Sequence[UUID] | None, wanted: Filter, limit: float = inf) -> Iterator[list[Entry]]:
    """Yield dead letters a page at a time, each with a connection and a time limit of its own; `limit` in all."""
    letters, last = LetterFilter(ids=None if ids is None else list(ids), **wanted), None
    while limit > 0:
        size = int(min(limit, PAGE_SIZE))
        entries = query(partial(dead_letters.page, wanted=letters, after=last, limit=size))
        if entries:
            yield entries
        if len(entries) < size:
            return
        last, limit = entries[-1], limit - len(entries)


def _fetch(
    ids: Sequence[UUID] | None, wanted: Filter = MappingProxyType({}), limit: float = inf
) -> Iterator[list[DeadLetter]]:
    """Yield dead letters with their contracts, as many at a time as fit in memory."""
    for entries in _entries(ids, wanted, limit):
        for chunk in dead_letters.chunks(entries):
            if letters := query(partial(dead_letters.fetch, ids=chunk)):
                yield letters


def _check_selection(ids: Sequence[UUID] | None, wanted: Filter, every: bool) -> None:
    """Raise InputInvalid unless the arguments name dead letters in one way, and for an id that is not one."""
    if sum((bool(ids), bool(wanted), every)) != 1:
        raise InputInvalid("say which: correlation ids, filters such as --error-type, or --all")
    if ids:
        known = {entry.correlation_id for entries in _entries(ids, {}) for entry in entries}
        if unknown := set(ids) - known:
            raise _unknown(unknown)


def _unknown(ids: Collection[UUID]) -> InputInvalid:
    return InputInvalid(f"no dead letter has the id {', '.join(map(str, sorted(ids, key=str)))}")


def _about(letter: DeadLetter) -> str:
    try:
        contract = letter.fields()
    except ContractInvalid as error:
        operation = OPERATION.search(letter.contract)
        return f"{operation[1] if operation else 'no operation'}, {error}"
    return describe_contract(str(contract.get("operation")), contract)


def _plain(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter as JSON types, its contract as text where it cannot be read."""
    plain: dict[str, Any] = {
        name: value if isinstance(value, int) else str(value) for name, value in vars(letter).items()
    }
    with suppress(ContractInvalid):
        plain["contract"] = letter.fields()
    return plain
