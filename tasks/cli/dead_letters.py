"""Commands for jobs that ran out of attempts: dead-letters list, show, replay, discard."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import typer

from config.settings import load_settings
from storage import ModelContractPatternStorage, attempts
from storage.attempts import DeadLetter
from storage.errors import StorageError
from storage.operations import check
from tasks.cli.exits import Exit, InputInvalid
from tasks.cli.jobs import Json
from tasks.cli.output import err, print_json, print_pairs, print_table
from tasks.client import PatternStorageClient
from tasks.client.archive import Archive, wait_for
from tasks.client.contracts import build
from tasks.description import describe

cli = typer.Typer(help="Jobs that ran out of attempts, kept until someone replays or discards them.")

Ids = Annotated[list[UUID] | None, typer.Argument(metavar="[CORRELATION_ID]...", help="These jobs.")]
ErrorType = Annotated[str | None, typer.Option(help="Only those that ended with this error_type.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say which, and change nothing.")]


@cli.command("list")
def list_letters(error_type: ErrorType = None, limit: int = 100, as_json: Json = False) -> None:
    """List dead letters, the newest first."""
    letters = _find(None, error_type, limit)
    if as_json:
        print_json([_plain(letter) for letter in letters])
        return
    rows = [(each.correlation_id, _about(each), each.error_type, each.attempts, each.died_at) for each in letters]
    print_table(("correlation id", "job", "error", "attempts", "died"), rows, title=f"{len(rows)} dead letters")


@cli.command()
def show(correlation_id: Annotated[UUID, typer.Argument()], as_json: Json = False) -> None:
    """Show one dead letter with its contract."""
    letter = _selected([correlation_id], None, False)[0]
    print_json(_plain(letter)) if as_json else print_pairs(_plain(letter), title=_about(letter))


@cli.command()
def replay(ids: Ids = None, error_type: ErrorType = None, every: All = False, dry_run: DryRun = False) -> None:
    """Send jobs again under their own correlation id. They stay dead letters until they are done: nothing is lost."""
    readable: dict[UUID, ModelContractPatternStorage] = {}
    letters = _selected(ids, error_type, every)
    for letter in letters:
        try:
            readable[letter.correlation_id] = build(**letter.contract)
            check(readable[letter.correlation_id])
        except (StorageError, TypeError) as error:
            readable.pop(letter.correlation_id, None)
            err.print(f"{letter.correlation_id} cannot be replayed: {error}", markup=False, soft_wrap=True)
    if not dry_run:
        with PatternStorageClient() as client:
            client.submit_again(readable.values())
    _say("replayed", [letter for letter in letters if letter.correlation_id in readable], dry_run)
    if len(readable) < len(letters):
        raise typer.Exit(Exit.FAILED)


@cli.command()
def discard(ids: Ids = None, error_type: ErrorType = None, every: All = False, dry_run: DryRun = False) -> None:
    """Remove dead letters for good."""
    letters = _selected(ids, error_type, every)
    if not dry_run:
        chosen = [letter.correlation_id for letter in letters]
        wait_for(_archive().ask(lambda connection: attempts.discard(connection, chosen)))
    _say("discarded", letters, dry_run)


def _archive() -> Archive:
    return Archive(load_settings())


def _find(ids: Sequence[UUID] | None, error_type: str | None, limit: int) -> list[DeadLetter]:
    question = _archive().ask(
        lambda connection: attempts.dead_letters(connection, ids=ids, error_type=error_type, limit=limit)
    )
    return wait_for(question)


def _selected(ids: Sequence[UUID] | None, error_type: str | None, every: bool) -> list[DeadLetter]:
    """Return the dead letters that the arguments name. Raises InputInvalid for none, and for an id that is not one."""
    if sum((bool(ids), error_type is not None, every)) != 1:
        raise InputInvalid("say which: correlation ids, --error-type, or --all")
    letters = _find(ids, error_type, 1_000_000)
    unknown = set(ids or ()) - {letter.correlation_id for letter in letters}
    if unknown:
        raise InputInvalid(f"no dead letter has the id {', '.join(map(str, sorted(unknown, key=str)))}")
    return letters


def _say(done: str, letters: Sequence[DeadLetter], dry_run: bool) -> None:
    for letter in letters:
        print(letter.correlation_id)  # noqa: T201  # for a script to read
    err.print(f"{'would be ' if dry_run else ''}{done}: {len(letters)}")


def _about(letter: DeadLetter) -> str:
    contract = letter.contract if isinstance(letter.contract, dict) else {}
    return describe(str(contract.get("operation")), contract)


def _plain(letter: DeadLetter) -> dict[str, object]:
    return {name: value if isinstance(value, dict | int) else str(value) for name, value in vars(letter).items()}
