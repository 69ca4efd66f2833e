"""Shared parts of operators' commands: who acts, filters of jobs, a confirmation, and reports of actions."""

import getpass
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import typer

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage.errors import FilterInvalid
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.cli.exits import InputInvalid
from pattern_storage.tasks.cli.output import err, print_json
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.operate.operator import Operator

T = TypeVar("T")


def actor() -> str:
    """Return who runs this command, for the audit."""
    user = "unknown"
    # In a container the user may have no name.
    with suppress(Exception):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def act_on(settings: Settings | None = None) -> Operator:
    """Return the operator who runs this command.

    Long actions are run with `asyncio.run`, in the main thread: Ctrl-C ends them after the step they are in.
    """
    return Operator(settings or load_settings(), actor())


def query(function: Callable[[Connection], Awaitable[T]], settings: Settings | None = None) -> T:
    """Return the result of a function of `storage`, called with a connection of its own."""
    return run_sync(Database(settings or load_settings()).run(function))


def check_not_empty(name: str, text: str | None) -> None:
    """Raise FilterInvalid for an empty text, which an unset variable of a shell gives: far more would match."""
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
    """Ask the user, unless `yes`. Raises InputInvalid where there is no terminal, and typer.Abort for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputInvalid(f"{question} Add --yes to say so, or --dry-run to look first")
    err.print(question)
    typer.confirm("Go on?", abort=True, err=True)


def report_count(done: str, count: int, *, dry_run: bool, as_json: bool, **more: Any) -> None:
    """Print how many jobs an action has changed, or would change."""
    if as_json:
        print_json({"action": done, "count": count, "dry_run": dry_run, **more})
    else:
        err.print(f"{'would be ' if dry_run else ''}{done}: {count:,}")


def report_change(done: str, changed: bool, *, as_json: bool, **target: str) -> None:
    """Print whether an action has changed a queue or an import, which `target` names."""
    if as_json:
        print_json({"action": done, **target, "changed": changed})
        return
    [name] = target.values()
    err.print(f"{name} is {done} now" if changed else f"{name} was {done} before: nothing to do")
