"""Commands for jobs that used up their attempts: dead-letters list, show, replay, discard."""

import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Annotated, Any
from uuid import UUID

import typer

from pattern_storage.config.settings import load_settings
from pattern_storage.storage import ModelContractPatternStorage, dead_letters
from pattern_storage.storage.dead_letters import PAGE_SIZE, DeadLetter, Entry
from pattern_storage.storage.errors import ContractInvalid, StorageError
from pattern_storage.storage.operations import check
from pattern_storage.tasks.cli.exits import Exit, InputInvalid
from pattern_storage.tasks.cli.jobs import Json
from pattern_storage.tasks.cli.operator import act_on, check_not_empty, read_filter
from pattern_storage.tasks.cli.output import err, print_json, print_pairs, print_table
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.client.outgoing import build
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.description import describe_contract

cli = typer.Typer(help="Jobs that ran out of attempts, kept until someone replays or discards them.")

#: The operation of a contract that cannot be read as JSON.
OPERATION = re.compile(r'"operation"\s*:\s*"(\w{1,30})"')

#: Names of columns, and the values that they should have.
Filter = Mapping[str, Any]

Ids = Annotated[list[UUID] | None, typer.Argument(metavar="[CORRELATION_ID]...", help="These jobs.")]
ErrorType = Annotated[str | None, typer.Option(help="Only those that ended with this error_type.")]
Operation = Annotated[str | None, typer.Option(help="insert, update, delete or batch_insert.")]
Name = Annotated[str | None, typer.Option(help="Exact name of the pattern.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say which, and change nothing.")]


@cli.command("list")
def list_letters(
    error_type: ErrorType = None,
    operation: Operation = None,
    name: Name = None,
    limit: Annotated[int, typer.Option(min=0, help="How many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """List dead letters, the newest first."""
    letters = chain.from_iterable(_contracts(None, _filter(error_type, operation, name), limit))
    if as_json:
        print_json([_plain(letter) for letter in letters])
        return
    rows = [(each.correlation_id, _about(each), each.error_type, each.attempts, each.died_at) for each in letters]
    print_table(("correlation id", "job", "error", "attempts", "died"), rows, title=f"{len(rows)} dead letters")


@cli.command()
def show(correlation_id: Annotated[UUID, typer.Argument()], as_json: Json = False) -> None:
    """Show one dead letter with its contract."""
    letter = next(chain.from_iterable(_contracts([correlation_id])), None)
    if letter is None:
        raise _unknown([correlation_id])
    print_json(_plain(letter)) if as_json else print_pairs(_plain(letter), title=_about(letter))


@cli.command()
def replay(
    ids: Ids = None,
    error_type: ErrorType = None,
    operation: Operation = None,
    name: Name = None,
    every: All = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send jobs again under their own correlation id. They stay dead letters until they are done: nothing is lost."""
    wanted = _filter(error_type, operation, name)
    _check_selection(ids, wanted, every)
    found, replayed = 0, Done("replayed", "replay dead letters", wanted, dry_run, as_json)
    with ExitStack() as stack:
        client = None if dry_run else stack.enter_context(PatternStorageClient())
        for letters in _contracts(ids, wanted):
            readable = list(_readable(letters))
            if client is not None:
                sent_again = [contract.correlation_id for contract in readable]
                run_sync(_database().run(partial(dead_letters.note_replay, ids=sent_again)))
                client.submit_again(readable)
            replayed.add([contract.correlation_id for contract in readable])
            found += len(letters)
    replayed.end()
    if len(replayed.ids) < found:
        raise typer.Exit(Exit.FAILED)


@cli.command()
def discard(
    ids: Ids = None,
    error_type: ErrorType = None,
    operation: Operation = None,
    name: Name = None,
    every: All = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove dead letters for good."""
    wanted = _filter(error_type, operation, name)
    _check_selection(ids, wanted, every)
    discarded = Done("discarded", "discard dead letters", wanted, dry_run, as_json)
    for entries in _entries(ids, wanted):
        chosen = [entry.correlation_id for entry in entries]
        if not dry_run:
            run_sync(_database().run(partial(dead_letters.discard, ids=chosen)))
        discarded.add(chosen)
    discarded.end()


class Done:
    """The letters that a command is done with: printed for a script to read, at once, and kept in the audit."""

    def __init__(self, past: str, action: str, wanted: Filter, dry_run: bool, as_json: bool) -> None:
        self._past, self._action, self._wanted = past, action, wanted
        self._dry_run, self._as_json = dry_run, as_json
        self.ids: list[str] = []

    def add(self, ids: Sequence[UUID]) -> None:
        """Note some that are done."""
        self.ids += map(str, ids)
        if ids and not self._dry_run:
            about = self._wanted or {"jobs": [*map(str, ids)]}
            run_sync(act_on().record(self._action, about, len(ids)))
        if not self._as_json:
            for each in ids:
                print(each)  # noqa: T201
            sys.stdout.flush()

    def end(self) -> None:
        """Say how many there were."""
        if self._as_json:
            print_json({
                "action": self._past, "count": len(self.ids), "dry_run": self._dry_run, "correlation_ids": self.ids,
            })  # fmt: skip
        else:
            err.print(f"{'would be ' if self._dry_run else ''}{self._past}: {len(self.ids)}")


def _database() -> Database:
    return Database(load_settings())


def _filter(error_type: str | None, operation: str | None, name: str | None) -> Filter:
    """Return what is given of a filter, by columns. Raises FilterInvalid."""
    wanted = read_filter(operation=operation, name=name).to_dict()
    check_not_empty("--error-type", error_type)
    # Letters of another release may have an error_type that is none of ours.
    return wanted if error_type is None else wanted | {"error_type": error_type}


def _entries(ids: Sequence[UUID] | None, wanted: Filter, limit: int | None = None) -> Iterator[list[Entry]]:
    """Yield dead letters a page at a time, each with a connection and a time limit of its own; `limit` in all."""
    last, rest = None, limit
    while rest is None or rest > 0:
        size = PAGE_SIZE if rest is None else min(rest, PAGE_SIZE)
        question = partial(dead_letters.page, ids=ids, after=last, limit=size, **wanted)
        entries = run_sync(_database().run(question))
        if entries:
            yield entries
        if len(entries) < size:
            return
        last, rest = entries[-1], None if rest is None else rest - len(entries)


def _contracts(
    ids: Sequence[UUID] | None, wanted: Filter = MappingProxyType({}), limit: int | None = None
) -> Iterator[list[DeadLetter]]:
    """Yield dead letters with their contracts, as many at a time as fit in memory."""
    for entries in _entries(ids, wanted, limit):
        for chunk in dead_letters.chunks(entries):
            if letters := run_sync(_database().run(partial(dead_letters.fetch, ids=chunk))):
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


def _readable(letters: Sequence[DeadLetter]) -> Iterator[ModelContractPatternStorage]:
    """Yield the contracts that can be sent again, and say of each other one why not."""
    for letter in letters:
        try:
            contract = build(**{"correlation_id": letter.correlation_id} | letter.fields())
            if contract.correlation_id != letter.correlation_id:
                raise ContractInvalid(f"its contract has another correlation_id, {contract.correlation_id}")
            check(contract)
        except (StorageError, TypeError) as error:
            err.print(f"{letter.correlation_id} cannot be replayed: {error}")
        else:
            yield contract


def _about(letter: DeadLetter) -> str:
    try:
        contract = letter.fields()
    except ContractInvalid as error:
        operation = OPERATION.search(letter.contract)
        return f"{operation[1] if operation else 'no operation'}, {error}"
    return describe_contract(str(contract.get("operation")), contract)


def _plain(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter as JSON types; a contract that cannot be read is the text that it is."""
    plain: dict[str, Any] = {
        name: value if isinstance(value, int) else str(value) for name, value in vars(letter).items()
    }
    with suppress(ContractInvalid):
        plain["contract"] = letter.fields()
    return plain
