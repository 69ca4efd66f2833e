"""Commands for imports: `import SOURCE` for one file now, and imports list, run, history, next for the imports file."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid4

import typer
from pydantic import ValidationError
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from config.settings import Settings, load_settings
from storage import ModelResult, import_runs
from storage.explanation import explain
from storage.import_runs import ImportRun
from storage.operations.base import Connection
from storage.pool import create_pool
from storage.translation import translate
from tasks.app import create_app
from tasks.cli.exits import Exit, InputInvalid
from tasks.cli.jobs import Json
from tasks.cli.output import err, print_json, print_pairs, print_table
from tasks.client import Job, JobTimeout, PatternStorageClient
from tasks.client.archive import Archive, wait_for
from tasks.imports.plan import ImportEntry, ImportPlan, absolute, load_entries
from tasks.imports.progress import Progress
from tasks.imports.publisher import publish
from tasks.imports.run import Run
from tasks.imports.sources import shown

T = TypeVar("T")

cli = typer.Typer(help="Scheduled imports of files, as PATTERN_STORAGE_IMPORTS_FILE says.")

Name = Annotated[str, typer.Argument(help="Name in the imports file.")]

#: Seconds until a run is put on the queue that this process does itself: the file may be on no other machine.
NEVER = 100 * 365 * 86_400.0

#: Seconds between two looks at a run that somebody waits for.
LOOK = 0.5


def import_source(
    source: Annotated[str, typer.Argument(help="Path or URL; with * for several files.")],
    file_format: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv, parquet or python; told by the suffix if left out.")
    ] = None,
    on_conflict: Annotated[
        str, typer.Option(help="What becomes of patterns that exist: error, skip or update.")
    ] = "error",
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=NAME", help="What a CSV or Parquet file calls a column; repeat it."),
    ] = None,
    separator: Annotated[str | None, typer.Option(help="Between tags in CSV; JSON if left out.")] = None,
    max_bad_rows: Annotated[int, typer.Option(min=0, help="Rows that may be wrong.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything and take it back.")] = False,
    as_json: Json = False,
) -> None:
    """Import one file now, all rows or none, in this process: it needs PostgreSQL and no worker."""
    settings = load_settings()
    _ = settings.database
    given: dict[str, Any] = {
        "source": absolute(source, Path.cwd()),
        "on_conflict": on_conflict,
        "columns": dict(_pair(text) for text in column or []),
        "separator": separator,
        "max_bad_rows": max_bad_rows,
    }
    if file_format is not None:
        given["format"] = file_format
    try:
        plan = ImportPlan.model_validate({"name": f"import {shown(given['source'])}"[:500]} | given)
    except ValidationError as error:
        raise InputInvalid(explain(error)) from None
    with _Bar() as bar:
        try:
            result = asyncio.run(_import_now(settings, plan, dry_run, lambda progress: bar.show(progress.to_dict())))
        except Exception as error:
            raise translate(error) from error
    _finish(result, as_json, "dry run, nothing is stored" if dry_run else "import done")


@cli.command("list")
def list_imports(as_json: Json = False) -> None:
    """List the imports of the file: when each is due next, and how its last run ended."""
    settings, entries = _entries()
    last = _ask(settings, lambda connection: import_runs.newest(connection, [entry.name for entry in entries]))
    now = datetime.now(UTC)
    rows = [(entry, _next(entry, now), last.get(entry.name)) for entry in entries]
    if as_json:
        print_json([
            {**entry.content, "source": shown(entry.source), "schedule": entry.when, "enabled": entry.enabled,
             "next": due and due.isoformat(), "last": run and _plain(run)}
            for entry, due, run in rows
        ])  # fmt: skip
        return
    table = [
        (entry.name, entry.when if entry.enabled else "disabled", _time(due), run and f"{run.state}\n{_rows(run)}")
        for entry, due, run in rows
    ]
    print_table(("name", "schedule", "next (UTC)", "last run"), table, title=f"{len(entries)} imports")


@cli.command()
def run(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Even if the source has not changed.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the result; 0 prints the run's id.")] = 3_600,
    as_json: Json = False,
) -> None:
    """Have a worker run an import of the file now, and wait for it."""
    settings, entries = _entries()
    entry = _named(entries, name)
    run_id = uuid4()
    _ask(settings, lambda connection: import_runs.add(connection, run_id, name, None, entry.content, force=force))
    app = create_app(settings)
    try:
        publish(app, [(run_id, name, None)])
    finally:
        app.close()
    if not wait:
        print_json({"correlation_id": str(run_id)}) if as_json else print(run_id)  # noqa: T201
        return
    with PatternStorageClient() as client:
        _finish(_follow(client.get(run_id), wait), as_json, "import done")


@cli.command()
def history(
    name: Annotated[str | None, typer.Argument(help="Only this import.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: Json = False,
) -> None:
    """Show how runs ended, the newest first."""
    runs = _ask(load_settings(), lambda connection: import_runs.history(connection, name, limit=limit))
    if as_json:
        print_json([_plain(run) for run in runs])
        return
    rows = [
        (
            run.run_id,
            f"{run.name}\n{_time(run.due) or 'by hand'}",
            f"{run.state}\n{_time(run.finished_at or run.started_at) or 'not yet'}",
            _rows(run),
        )
        for run in runs
    ]
    print_table(("run id", "import, due (UTC)", "state, since", "rows"), rows, title=f"{len(runs)} runs")
    for run in runs:
        if run.error:
            err.print(Text(f"{run.run_id} {run.error[:500]}", "dim"), soft_wrap=True)


@cli.command("next")
def next_runs(
    count: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 10, as_json: Json = False
) -> None:
    """Show the next due times of all imports."""
    _, entries = _entries()
    found: list[tuple[datetime, str]] = []
    for entry in entries:
        due = _next(entry, datetime.now(UTC))
        for _ in range(count):
            if due is None:
                break
            found.append((due, entry.name))
            due = _next(entry, due)
    found = sorted(found)[:count]
    if as_json:
        print_json([{"due": due.isoformat(), "name": name} for due, name in found])
        return
    print_table(("due (UTC)", "name"), [(_time(due), name) for due, name in found])


async def _import_now(
    settings: Settings, plan: ImportPlan, dry_run: bool, report: Callable[[Progress], None]
) -> ModelResult:
    run_id = uuid4()
    async with create_pool(
        settings.database, min_size=1, max_size=2, timeout=settings.pool_timeout, lock_timeout=settings.lock_timeout
    ) as pool:
        if not dry_run:
            async with pool.connection() as connection:
                await import_runs.add(connection, run_id, plan.name, None, plan.content, force=True, publish=False)
        now = Run(
            pool, plan, run_id, rejects=settings.data_dir / "imports", seconds=settings.import_time_limit,
            delay=NEVER, report=report, force=True, dry_run=dry_run,
        )  # fmt: skip
        result = await now.execute()
        return await now.settle(result) if result.metadata.get("retryable") else result


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


def _ask(settings: Settings, question: Callable[[Connection], Awaitable[T]]) -> T:
    return wait_for(Archive(settings).ask(question))


def _next(entry: ImportEntry, moment: datetime) -> datetime | None:
    return entry.due.after(moment) if entry.enabled and entry.due else None


def _pair(text: str) -> tuple[str, str]:
    column, sign, name = text.partition("=")
    if not sign:
        raise InputInvalid(f"--column is {text!r}; it should be COLUMN=NAME, such as pattern_name=Name")
    return column, name


class _Bar:
    """A bar on standard error: part done, rows, rows a second, and the time left where that can be told."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]}"))
        self._bar = Bar(*columns, console=err, transient=True, disable=not err.is_terminal)

    def __enter__(self) -> "_Bar":
        self._bar.start()
        self._task = self._bar.add_task("waiting", total=None, rows="")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, about: dict[str, Any]) -> None:
        """Show what `Progress.to_dict` says."""
        rows = f"{about['current']:,} rows, {about['rate']:,.0f} rows/s"
        if (left := about["seconds_left"]) is not None:
            rows += f", {timedelta(seconds=round(left))} left"
        total = None if about["percent"] is None else 100.0
        self._bar.update(
            self._task, description=about["phase"], total=total, completed=about["percent"] or 0.0, rows=rows
        )


def _follow(job: Job, wait: float) -> ModelResult:
    """Show how far a run is until it has ended, and return its result. Raises JobTimeout after `wait` seconds."""
    deadline = time.monotonic() + wait
    with _Bar() as bar:
        while True:
            try:
                return job.result(timeout=min(LOOK, max(deadline - time.monotonic(), 0.0)))
            except JobTimeout:
                if time.monotonic() >= deadline:
                    raise
            if about := job.progress():
                bar.show(about)


def _finish(result: ModelResult, as_json: bool, title: str) -> None:
    if as_json:
        print_json(result.to_dict())
    elif result.success:
        print_pairs(result.data, title=title)
    else:
        err.print(Text.assemble(("import failed ", "bold red"), f"({result.metadata.get('error_type')})"))
        err.print(Text(str(result.error)), soft_wrap=True)
    if not result.success:
        raise typer.Exit(Exit.FAILED)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _rows(run: ImportRun) -> str:
    counts = {
        "new": run.rows_inserted, "changed": run.rows_updated, "skipped": run.rows_skipped, "bad": run.rows_rejected,
    }  # fmt: skip
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "none"


def _plain(run: ImportRun) -> dict[str, Any]:
    plain = {name: str(value) if isinstance(value, UUID | datetime) else value for name, value in vars(run).items()}
    return plain | {"plan": run.plan | {"source": shown(str(run.plan.get("source")))}}
