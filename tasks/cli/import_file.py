"""Command `import SOURCE`: imports files now, in its own process."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any
from uuid import uuid4

import typer
from pydantic import ValidationError

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.extras import require
from pattern_storage.storage import ModelResult, import_runs, ledger, schema
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.explanation import explain
from pattern_storage.storage.pool import create_pool
from pattern_storage.storage.translation import translate
from pattern_storage.tasks.cli.exits import Exit, InputInvalid
from pattern_storage.tasks.cli.interrupts import explain_interrupt
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import print_json
from pattern_storage.tasks.cli.progress import ProgressBar
from pattern_storage.tasks.cli.results import print_failure
from pattern_storage.tasks.cli.tables import print_pairs
from pattern_storage.tasks.errors import ImportFailed
from pattern_storage.tasks.imports.location import absolute, local_path
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.tasks.imports.run.execution import RunExecutor
from pattern_storage.tasks.imports.run.progress import Progress
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.vocabulary import IMPORT_OPERATION, ErrorType

#: Seconds until the run would be published for workers: never, since the file may be on this machine alone.
NEVER = 100 * 365 * 86_400.0
#: The extra of a format, or of a protocol.
EXTRAS = {"parquet": "parquet", "s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
#: Exit codes of a source that cannot be used: as of other bad input, such as the file of `insert --file`.
SOURCE_EXITS: Mapping[str, Exit] = {
    ErrorType.SOURCE_MISSING: Exit.BAD_INPUT,
    ErrorType.SOURCE_UNREADABLE: Exit.BAD_INPUT,
    ErrorType.COLUMNS_INVALID: Exit.BAD_INPUT,
    ErrorType.BAD_ROWS: Exit.BAD_INPUT,
    ErrorType.SOURCE_UNAVAILABLE: Exit.UNREACHABLE,
}


def import_source(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Path or URL; with * for several files.")],
    file_format: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv, parquet or python; told by the suffix if left out.")
    ] = None,
    on_conflict: Annotated[str, typer.Option(help="For patterns that exist already: error, skip or update.")] = "error",
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=NAME",
            help="The name of a column in a CSV or Parquet file; once one is given, columns without are left out.",
        ),
    ] = None,
    separator: Annotated[str | None, typer.Option(help="Between tags in CSV; by default they are JSON.")] = None,
    delimiter: Annotated[
        str, typer.Option(help="Between the values of a CSV line: a character, or 'tab'.", show_default="a comma")
    ] = ",",
    max_bad_rows: Annotated[int, typer.Option(min=0, help="Wrong rows to leave out; more fail the import.")] = 0,
    build_indexes_last: Annotated[
        bool,
        typer.Option("--build-indexes-last", help="Faster for a first load; nothing can read the table meanwhile."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Import, and roll it back.")] = False,
    as_json: Json = False,
) -> None:
    """Import one file now, all rows or none, in this process: it needs PostgreSQL and no worker."""
    settings = load_settings()
    _ = settings.database
    try:
        location = absolute(source, Path.cwd())
    except ValueError as error:
        raise InputInvalid(str(error)) from None
    given: dict[str, Any] = {
        "source": location,
        "on_conflict": on_conflict,
        "columns": dict(_pair(text) for text in column or []),
        "separator": separator,
        "delimiter": "\t" if delimiter in ("tab", "\\t") else delimiter,
        "max_bad_rows": max_bad_rows,
        "build_indexes_last": build_indexes_last,
    }
    if file_format is not None:
        given["format"] = file_format
    try:
        plan = ImportPlan.model_validate({"name": redact(given["source"])[:500]} | given)
    except ValidationError as error:
        raise InputInvalid(explain(error)) from None
    for kind in (plan.format, plan.source.partition("://")[0]):
        if kind in EXTRAS:
            require(f"pattern-storage import {redact(plan.source)}", EXTRAS[kind])
    # This says at once why a server cannot be reached; a pool says only that it has waited.
    try:
        schema.current(settings.database)
    except StorageError:
        # A file that is not there is no matter of servers: with one that runs it would fail as well.
        if refused := _refused_file(plan):
            finish_import(refused, as_json, "", SOURCE_EXITS)
        raise
    with explain_interrupt(lambda: "The import is rolled back: nothing is stored."), ProgressBar() as bar:
        try:
            result = asyncio.run(_import_now(settings, plan, dry_run, lambda progress: bar.show(progress.to_dict())))
        except Exception as error:
            raise translate(error) from error
    finish_import(result, as_json, "dry run, nothing is stored" if dry_run else "import done", SOURCE_EXITS)


def finish_import(
    result: ModelResult, as_json: bool, title: str, exits: Mapping[str, Exit] = MappingProxyType({})
) -> None:
    """Print the result of a run; exit 1 if it failed, or with the code that `exits` has for its error_type."""
    if as_json:
        print_json(result.to_dict())
    elif result.success:
        print_pairs(_readable(result.data), title=title)
    else:
        print_failure(result, "import")
    if not result.success:
        raise typer.Exit(exits.get(str(result.metadata.get("error_type")), Exit.FAILED))


def _refused_file(plan: ImportPlan) -> ModelResult | None:
    """Return the failure of a local source that cannot be found; None for one that can, and for a URL."""
    if local_path(plan.source) is None:
        return None
    try:
        Source(plan)
    except ImportFailed as error:
        return ModelResult.failure(str(error), error.error_type, correlation_id=uuid4(), operation=IMPORT_OPERATION)
    return None


def _readable(data: dict[str, Any]) -> dict[str, str]:
    """Return the data of a run for people: without what says nothing to them, and numbers with separators."""
    return {
        name.replace("_", " "): f"{value:,}" if isinstance(value, int) else str(value)
        for name, value in data.items()
        if value is not None and name != "source_version" and (name, value) != ("bytes", 0)
    }


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
        now = RunExecutor(
            pool, plan, run_id, rejects=settings.data_dir / "imports", seconds=settings.import_time_limit,
            delay=NEVER, report=report, force=True, dry_run=dry_run,
        )  # fmt: skip
        try:
            result = await now.execute()
        except asyncio.CancelledError:
            # Ctrl-C: it has rolled back, and no other process would ever end the run.
            if not dry_run:
                async with pool.connection() as connection:
                    result = await ledger.cancel(connection, run_id)
                if result.success:
                    # It had committed a moment before.
                    return result
            raise
        return await now.record_failure(result) if result.metadata.get("retryable") else result


def _pair(text: str) -> tuple[str, str]:
    column, sign, name = text.partition("=")
    if not sign:
        raise InputInvalid(f"--column is {text!r}; it should be COLUMN=NAME, such as pattern_name=Name")
    return column, name
