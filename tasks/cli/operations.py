"""Commands that enqueue jobs and read results: insert, update, delete, query, result, status."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.cli.exits import Exit, InputInvalid
from pattern_storage.tasks.cli.fields import parse_fields, read_patterns
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import err, print_json
from pattern_storage.tasks.cli.progress import counting
from pattern_storage.tasks.cli.results import print_id, print_result
from pattern_storage.tasks.cli.tables import print_table
from pattern_storage.tasks.client import Job, JobTimeout, PatternStorageClient
from pattern_storage.tasks.client.call_options import CallOptions
from pattern_storage.tasks.client.outgoing import build
from pattern_storage.vocabulary import ErrorType, OperationName, Priority

FIELDS_HELP = "column=value; column=@FILE reads a text file. Numbers, tags and context are JSON; tags may be a,b,c."

ORDER_HELP = "created_at, updated_at, pattern_name, confidence_score, success_rate or usage_count."

#: Failed batches whose error is printed; 'pattern-storage result ID' tells the others.
SHOWN_FAILURES = 5

Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the result; 0 prints the correlation id.")]
CorrelationId = Annotated[UUID | None, typer.Option("--id", help="The job's correlation id; a new one by default.")]
Expect = Annotated[
    str | None,
    typer.Option(help="Only if its updated_at is still this one; else fail with version_conflict."),
]
Urgency = Annotated[Priority | None, typer.Option("--priority", help="Goes before or after other jobs that wait.")]
Delay = Annotated[float | None, typer.Option(min=0, help="Seconds until it may begin; use it with --wait 0.")]
Fields = Annotated[list[str] | None, typer.Argument(metavar="COLUMN=VALUE...", help=FIELDS_HELP)]


def finish(job: Job, wait: float, as_json: bool) -> None:
    """Wait for one job, print what became of it, and exit 1 if it failed."""
    if not wait:
        print_id(job.correlation_id, as_json=as_json)
        return
    result = job.result(timeout=wait)
    print_result(result, as_json=as_json)
    if not result.success:
        raise typer.Exit(Exit.FAILED)


def insert(
    fields: Fields = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="JSON object, JSON array or JSON Lines; '-' reads standard input."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=10_000, help="Patterns of a file in one atomic job.")] = 1_000,
    correlation_id: CorrelationId = None,
    priority: Urgency = None,
    delay: Delay = None,
    wait: Wait = 30.0,
    as_json: Json = False,
) -> None:
    """Store one pattern, or every pattern of a file in atomic batches."""
    if bool(fields) == (file is not None):
        raise InputInvalid("give either COLUMN=VALUE arguments or --file, for example: pattern_name=Singleton ...")
    # Of any shape: the client checks them.
    patterns: list[Any] = [parse_fields(fields)] if fields else read_patterns(file or Path("-"))
    batches = [patterns[start : start + batch_size] for start in range(0, len(patterns), batch_size)]
    if correlation_id is not None and len(batches) > 1:
        raise InputInvalid(f"--id names one job, but {len(patterns)} patterns make {len(batches)}; raise --batch-size")
    options: CallOptions = {"priority": priority, "delay": delay}
    with PatternStorageClient() as client:
        if len(patterns) == 1:
            finish(client.insert(patterns[0], correlation_id=correlation_id, **options), wait, as_json)
        elif len(batches) == 1:
            finish(client.batch_insert(patterns, correlation_id=correlation_id, **options), wait, as_json)
        else:
            # All are checked before the first is sent: a wrong value at the end of a file leaves nothing stored.
            contracts = [build(OperationName.BATCH_INSERT, patterns=batch) for batch in batches]
            _finish_many(client.submit_many(contracts, **options), wait, as_json)


def _finish_many(jobs: list[Job], wait: float, as_json: bool) -> None:
    """Wait for several batches, print what became of each, and exit 1 if one failed, 3 if one has no result yet."""
    if not wait:
        ids = [str(job.correlation_id) for job in jobs]
        print_json({"correlation_ids": ids}) if as_json else print("\n".join(ids))  # noqa: T201
        return
    results = []
    with counting("storing", "batches", len(jobs)) as show:
        for job in jobs:
            results.append(_result_or_timeout(job, wait))
            show(len(results))
            if results[-1].metadata.get("error_type") == ErrorType.NO_RESULT_YET:
                # Perhaps no worker runs: the others are only looked at, or each would be waited for as long.
                wait = 0.0
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        rows = [
            (index, result.metadata["correlation_id"], result.data["count"] if result.success else 0)
            for index, result in enumerate(results)
        ]
        stored = sum(count for _, _, count in rows)
        print_table(("batch", "correlation id", "stored"), rows, title=f"{stored:,} stored in {len(rows)} batches")
        failures = [f"batch {index}: {result.error}" for index, result in enumerate(results) if result.error]
        for failure in failures[:SHOWN_FAILURES]:
            err.print(failure)
    waiting = sum(result.metadata.get("error_type") == ErrorType.NO_RESULT_YET for result in results)
    if failed := sum(not result.success for result in results) - waiting:
        err.print(f"{failed} of {len(results)} batches failed and wrote nothing.")
    if waiting:
        err.print(f"{waiting} of {len(results)} batches have no result yet; 'pattern-storage result ID' asks again.")
    if waiting or failed:
        raise typer.Exit(Exit.UNREACHABLE if waiting else Exit.FAILED)


def _result_or_timeout(job: Job, wait: float) -> ModelResult:
    """Return a job's result, or a failed one where there is none in time: the other jobs' results are still shown."""
    try:
        return job.result(timeout=wait)
    except JobTimeout as error:
        return ModelResult.failure(
            str(error),
            ErrorType.NO_RESULT_YET,
            correlation_id=job.correlation_id,
            operation=OperationName.BATCH_INSERT,
        )


def update(
    pattern_id: Annotated[UUID, typer.Argument()],
    fields: Annotated[list[str], typer.Argument(metavar="COLUMN=VALUE...", help=FIELDS_HELP)],
    expect: Expect = None,
    correlation_id: CorrelationId = None,
    priority: Urgency = None,
    delay: Delay = None,
    wait: Wait = 30.0,
    as_json: Json = False,
) -> None:
    """Change some columns of one pattern."""
    options: CallOptions = {"priority": priority, "delay": delay}
    with PatternStorageClient() as client:
        changes: Any = parse_fields(fields)
        job = client.update(pattern_id, changes, expect=expect, correlation_id=correlation_id, **options)
        finish(job, wait, as_json)


def delete(
    pattern_id: Annotated[UUID, typer.Argument()],
    expect: Expect = None,
    correlation_id: CorrelationId = None,
    priority: Urgency = None,
    delay: Delay = None,
    wait: Wait = 30.0,
    as_json: Json = False,
) -> None:
    """Remove one pattern."""
    options: CallOptions = {"priority": priority, "delay": delay}
    with PatternStorageClient() as client:
        finish(client.delete(pattern_id, expect=expect, correlation_id=correlation_id, **options), wait, as_json)


def query(
    pattern_id: Annotated[UUID | None, typer.Option("--pattern-id", help="Only the pattern with this id.")] = None,
    name: Annotated[str | None, typer.Option(help="Exact name.")] = None,
    contains: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Exact pattern_type.")] = None,
    language: Annotated[str | None, typer.Option()] = None,
    category: Annotated[str | None, typer.Option()] = None,
    created_by: Annotated[str | None, typer.Option()] = None,
    deprecated: Annotated[bool | None, typer.Option("--deprecated/--not-deprecated")] = None,
    parent: Annotated[UUID | None, typer.Option(help="Only patterns derived from this one.")] = None,
    tag_any: Annotated[list[str] | None, typer.Option(help="Has at least one of these tags; may be repeated.")] = None,
    tag_all: Annotated[list[str] | None, typer.Option(help="Has all of these tags; may be repeated.")] = None,
    context: Annotated[str | None, typer.Option(help="JSON object that the context contains.")] = None,
    min_confidence: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    min_success_rate: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    created_after: Annotated[str | None, typer.Option(help="ISO 8601 with time zone, inclusive.")] = None,
    created_before: Annotated[str | None, typer.Option(help="ISO 8601 with time zone, exclusive.")] = None,
    updated_after: Annotated[str | None, typer.Option(help="ISO 8601 with time zone, inclusive.")] = None,
    updated_before: Annotated[str | None, typer.Option(help="ISO 8601 with time zone, exclusive.")] = None,
    order_by: Annotated[str, typer.Option(help=ORDER_HELP)] = "created_at",
    ascending: Annotated[bool, typer.Option("--ascending", help="Smallest or oldest first.")] = False,
    limit: Annotated[int, typer.Option(help="1 to 1,000.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on after the page that printed this cursor.")] = None,
    wait: Wait = 30.0,
    as_json: Json = False,
) -> None:
    """Find patterns; all given filters must hold."""
    params: dict[str, Any] = {
        "id": pattern_id,
        "pattern_name": name,
        "name_contains": contains,
        "pattern_type": kind,
        "language": language,
        "category": category,
        "created_by": created_by,
        "is_deprecated": deprecated,
        "parent_pattern_id": parent,
        "tags_any": tag_any,
        "tags_all": tag_all,
        "context_contains": parse_fields([f"context={context}"])["context"] if context is not None else None,
        "min_confidence": min_confidence,
        "min_success_rate": min_success_rate,
        "created_after": created_after,
        "created_before": created_before,
        "updated_after": updated_after,
        "updated_before": updated_before,
        "order_by": order_by,
        "descending": not ascending,
        "limit": limit,
        "cursor": cursor,
    }
    given = {name: value for name, value in params.items() if value is not None}
    with PatternStorageClient() as client:
        finish(client.query(**given), wait, as_json)


def result(
    correlation_id: Annotated[UUID, typer.Argument()],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the result.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Print what became of a job."""
    with PatternStorageClient() as client:
        found = client.get(correlation_id).result(timeout=wait)
    print_result(found, as_json=as_json)
    if not found.success:
        raise typer.Exit(Exit.FAILED)


def status(correlation_id: Annotated[UUID, typer.Argument()], as_json: Json = False) -> None:
    """Print where a job is: UNKNOWN, QUEUED, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED."""
    with PatternStorageClient() as client:
        found = client.get(correlation_id).status()
    print_json({"correlation_id": str(correlation_id), "status": found}) if as_json else print(found)  # noqa: T201


COMMANDS: tuple[Callable[..., None], ...] = (insert, update, delete, query, result, status)
