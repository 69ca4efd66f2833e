"""Commands that enqueue jobs and read results: insert, update, delete, query, result, status."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from pattern_storage.tasks.cli.batches import Batches
from pattern_storage.tasks.cli.exits import Exit, InputInvalid
from pattern_storage.tasks.cli.fields import parse_fields, read_patterns
from pattern_storage.tasks.cli.options import Json
from pattern_storage.tasks.cli.output import print_json
from pattern_storage.tasks.cli.results import finish, print_result
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.client.call_options import CallOptions
from pattern_storage.vocabulary import Priority

FIELDS_HELP = "column=value; column=@FILE reads a text file. Numbers, tags and context are JSON; tags may be a,b,c."

ORDER_HELP = "created_at, updated_at, pattern_name, confidence_score, success_rate or usage_count."

Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the result; 0 prints the correlation id.")]
CorrelationId = Annotated[UUID | None, typer.Option("--id", help="The job's correlation id; a new one by default.")]
Expect = Annotated[
    str | None,
    typer.Option(help="Only if its updated_at is still this one; else fail with version_conflict."),
]
Urgency = Annotated[Priority | None, typer.Option("--priority", help="Goes before or after other jobs that wait.")]
Delay = Annotated[float | None, typer.Option(min=0, help="Seconds until it may begin; use it with --wait 0.")]
Fields = Annotated[list[str] | None, typer.Argument(metavar="COLUMN=VALUE", help=FIELDS_HELP)]


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
    options: CallOptions = {"priority": priority, "delay": delay}
    # Of any shape: the client checks it.
    given: Any = parse_fields(fields) if fields else read_patterns(file or Path("-"))
    with PatternStorageClient() as client:
        if fields:
            finish(client.insert(given, correlation_id=correlation_id, **options), wait, as_json)
        else:
            Batches(given, batch_size, wait, as_json).insert(client, correlation_id, options)


def update(
    pattern_id: Annotated[UUID, typer.Argument(metavar="PATTERN_ID")],
    fields: Annotated[list[str], typer.Argument(metavar="COLUMN=VALUE", help=FIELDS_HELP)],
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
    pattern_id: Annotated[UUID, typer.Argument(metavar="PATTERN_ID")],
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
    correlation_id: Annotated[UUID, typer.Argument(metavar="CORRELATION_ID")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the result.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Print what became of a job."""
    with PatternStorageClient() as client:
        found = client.get(correlation_id).result(timeout=wait)
    print_result(found, as_json=as_json)
    if not found.success:
        raise typer.Exit(Exit.FAILED)


def status(correlation_id: Annotated[UUID, typer.Argument(metavar="CORRELATION_ID")], as_json: Json = False) -> None:
    """Print where a job is: UNKNOWN, QUEUED, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED."""
    with PatternStorageClient() as client:
        found = client.get(correlation_id).status()
    print_json({"correlation_id": str(correlation_id), "status": found}) if as_json else print(found)  # noqa: T201


COMMANDS: tuple[Callable[..., None], ...] = (insert, update, delete, query, result, status)
