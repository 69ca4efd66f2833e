"""Commands `imports list`, `run`, `stop`, `pause`, `resume`, `history` and `next`, for those of the imports file."""

import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from heapq import merge
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

import typer

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage import ModelResult, import_runs, pauses
from pattern_storage.storage.explanation import one_line
from pattern_storage.storage.import_runs import ImportRun
from pattern_storage.storage.pauses import Pausable
from pattern_storage.tasks.cli.exits import Exit, InputInvalid
from pattern_storage.tasks.cli.import_file import finish_import
from pattern_storage.tasks.cli.interrupts import explain_interrupt
from pattern_storage.tasks.cli.operator import act_on, query, report_change
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import err, plural, print_json
from pattern_storage.tasks.cli.progress import ProgressBar
from pattern_storage.tasks.cli.results import print_id
from pattern_storage.tasks.cli.tables import print_list
from pattern_storage.tasks.client import Job, JobTimeout, PatternStorageClient
from pattern_storage.tasks.database import run_sync
from pattern_storage.tasks.imports.plan.imports_file import load_entries
from pattern_storage.tasks.imports.plan.model import ImportEntry
from pattern_storage.tasks.imports.redaction import redact

cli = typer.Typer(help="Scheduled imports of files, as PATTERN_STORAGE_IMPORTS_FILE says.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name in the imports file.")]

#: Seconds between two polls of a run that is waited for.
POLL_INTERVAL = 0.5


@cli.command("list")
def list_imports(as_json: Json = False) -> None:
    """List the imports of the file: when each is due next, and how its last run ended."""
    settings, entries = _entries()
    last = query(partial(import_runs.newest, names=[entry.name for entry in entries]), settings)
    paused = query(partial(pauses.paused, kind=Pausable.IMPORT), settings)
    now = datetime.now(UTC)
    rows = [(entry, _next(entry, now), last.get(entry.name)) for entry in entries]
    if as_json:
        print_json([
            {**entry.content, "source": redact(entry.source), "schedule": entry.when, "enabled": entry.enabled,
             "paused": entry.name in paused,
             "next": due and due.isoformat(), "last": run and _plain(run)}
            for entry, due, run in rows
        ])  # fmt: skip
        return
    table = [
        (entry.name, _when(entry, due, entry.name in paused), run and f"{run.state}, {_rows(run)}", entry.when)
        for entry, due, run in rows
    ]
    print_list(("name", "next (UTC)", "last run", "schedule"), table, title=plural(len(entries), "import"))


@cli.command()
def run(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Import even if the source has not changed.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the result; 0 prints the run's id.")] = 3_600,
    as_json: Json = False,
) -> None:
    """Have a worker run an import of the file now, and wait for it."""
    settings, entries = _entries()
    entry = _named(entries, name)
    run_id = run_sync(act_on(settings).run_import(name, entry.content, force=force))
    if not wait:
        print_id(run_id, as_json=as_json)
        return
    with PatternStorageClient() as client:
        stop = f"'pattern-storage imports stop {shlex.quote(name)}' stops it"
        look = f"'pattern-storage result {run_id}' tells its result"
        with explain_interrupt(lambda: f"The run {run_id} goes on: {look}, {stop}."):
            result = _follow(client.get(run_id), wait)
        finish_import(result, as_json, "import done")


@cli.command()
def stop(name: Name, as_json: Json = False) -> None:
    """Stop the run of an import that waits or is executed: it rolls back, and ends as cancelled."""
    stopped = [str(run_id) for run_id in run_sync(act_on().stop_import(name))]
    if as_json:
        print_json({"action": "stopped", "name": name, "runs": stopped})
    else:
        for run_id in stopped:
            print(run_id)  # noqa: T201
        err.print(f"stopped: {len(stopped)}" if stopped else f"{name} has no run that waits or is executed")
    if not stopped:
        raise typer.Exit(Exit.FAILED)


@cli.command()
def pause(name: Name, as_json: Json = False) -> None:
    """Have beat start no run of an import until it is resumed; what becomes due meanwhile is left out."""
    _named(_entries()[1], name)
    report_change("paused", run_sync(act_on().pause_import(name)), as_json=as_json, name=name)


@cli.command()
def resume(name: Name, as_json: Json = False) -> None:
    """Let beat start runs of an import again, from its next due time on."""
    resumed = run_sync(act_on().resume_import(name))
    # An import that was paused may have left the file since.
    if not resumed:
        _named(_entries()[1], name)
    report_change("resumed", resumed, as_json=as_json, name=name)


@cli.command()
def history(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this import.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: Json = False,
) -> None:
    """Show how runs ended, the newest first."""
    runs = query(partial(import_runs.history, name=name, limit=limit))
    if as_json:
        print_json([_plain(run) for run in runs])
        return
    rows = [
        (
            run.run_id,
            run.state,
            run.finished_at or run.started_at or "not yet",
            run.name,
            _rows(run),
            run.due or "by hand",
        )
        for run in runs
    ]
    columns = ("run id", "state", "since (UTC)", "import", "rows", "due (UTC)")
    print_list(columns, rows, title=plural(len(runs), "run"))
    for run in runs:
        if run.error:
            err.print(one_line(f"{run.run_id} {run.error[:500]}"), style="dim")


@cli.command("next")
def next_runs(
    count: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 10, as_json: Json = False
) -> None:
    """Show the next due times of all imports."""
    now = datetime.now(UTC)
    found = list(islice(merge(*(_due_times(entry, now) for entry in _entries()[1])), count))
    if as_json:
        print_json([{"due": due.isoformat(), "name": name} for due, name in found])
        return
    print_list(("due (UTC)", "name"), found)


def _entries() -> tuple[Settings, list[ImportEntry]]:
    settings = load_settings()
    if settings.imports_file is None:
        raise InputInvalid("PATTERN_STORAGE_IMPORTS_FILE is not set; it should be the path of an imports file")
    return settings, load_entries(settings.imports_file)


def _named(entries: list[ImportEntry], name: str) -> ImportEntry:
    for entry in entries:
        if entry.name == name:
            return entry
    raise InputInvalid(f"there is no import {name!r}; known are {', '.join(entry.name for entry in entries) or 'none'}")


def _when(entry: ImportEntry, due: datetime | None, is_paused: bool) -> datetime | str:
    """Return when beat starts an import next, or why it does not."""
    if not entry.enabled:
        return "disabled"
    return "paused" if is_paused else due or "by hand"


def _next(entry: ImportEntry, moment: datetime) -> datetime | None:
    return entry.due.after(moment) if entry.enabled and entry.due else None


def _due_times(entry: ImportEntry, moment: datetime) -> Iterator[tuple[datetime, str]]:
    while due := _next(entry, moment):
        yield due, entry.name
        moment = due


def _follow(job: Job, wait: float) -> ModelResult:
    """Show a run's progress until it has ended, and return its result. Raises JobTimeout after `wait` seconds."""
    deadline = time.monotonic() + wait
    with ProgressBar() as bar:
        while True:
            try:
                return job.result(timeout=min(POLL_INTERVAL, max(deadline - time.monotonic(), 0.0)))
            except JobTimeout:
                if time.monotonic() >= deadline:
                    raise
            if about := job.progress():
                bar.show(about)


def _rows(run: ImportRun) -> str:
    counts = {
        "new": run.rows_inserted, "changed": run.rows_updated, "skipped": run.rows_skipped, "bad": run.rows_rejected,
    }  # fmt: skip
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "no rows"


def _plain(run: ImportRun) -> dict[str, Any]:
    plain = {name: str(value) if isinstance(value, UUID | datetime) else value for name, value in vars(run).items()}
    return plain | {"plan": run.plan | {"source": redact(str(run.plan.get("source")))}}
