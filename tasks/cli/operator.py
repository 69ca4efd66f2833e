"""Options of operators' commands: who acts, filters of jobs, and a confirmation that says how many."""

import getpass
import socket
import sys
from contextlib import suppress
from typing import Annotated

import typer

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage.errors import FilterInvalid
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.tasks.cli.exits import InputInvalid
from pattern_storage.tasks.cli.output import err
from pattern_storage.tasks.operate.operator import Operator

State = Annotated[
    str | None, typer.Option("--state", help="QUEUED, STARTED, RETRY, SUCCESS, FAILURE, DEAD, REVOKED; several: a,b.")
]
OperationOption = Annotated[
    str | None, typer.Option("--operation", help="insert, update, delete, batch_insert or import.")
]
ErrorTypeOption = Annotated[str | None, typer.Option("--error-type", help="Only those that failed in this way.")]
Name = Annotated[str | None, typer.Option("--name", help="Exact name of the pattern, or of the import.")]
Queue = Annotated[str | None, typer.Option("--queue", help="storage, batch, imports, or a name that jobs were given.")]
Since = Annotated[str | None, typer.Option("--since", help="ISO 8601, inclusive; UTC without a zone.")]
Until = Annotated[str | None, typer.Option("--until", help="ISO 8601, exclusive; UTC without a zone.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many, and change nothing.")]


def actor() -> str:
    """Return who runs this command, for the audit."""
    user = "unknown"
    # In a container the user may have no name.
    with suppress(Exception):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def act_on(settings: Settings | None = None) -> Operator:
    """Return the operator who runs this command."""
    return Operator(settings or load_settings(), actor())


def check_not_empty(name: str, text: str | None) -> None:
    """Raise FilterInvalid for what a variable of a shell that is not set gives: without it far more would match."""
    if text is not None and not text.strip():
        raise FilterInvalid(f"{name} is empty; leave it out, or give it a value")


def read_filter(
    state: str | None = None,
    operation: str | None = None,
    error_type: str | None = None,
    name: str | None = None,
    queue: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> JobFilter:
    """Return the filter that the options give. Raises FilterInvalid, which names the option."""
    given = {
        "states": state, "operation": operation, "error_type": error_type, "pattern_name": name, "queue": queue,
        "since": since, "until": until,
    }  # fmt: skip
    try:
        for field, text in given.items():
            check_not_empty(field, text)
        return JobFilter.parse(given)
    except FilterInvalid as error:
        field, _, what = str(error).partition(" ")
        option = {"states": "state", "pattern_name": "name"}.get(field, field.replace("_", "-"))
        raise FilterInvalid(f"--{option} {what}") from None


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless told not to. Raises InputInvalid where nobody is there to answer, and typer.Abort for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputInvalid(f"{question} Add --yes to say so, or --dry-run to look first")
    err.print(question)
    typer.confirm("Go on?", abort=True, err=True)
