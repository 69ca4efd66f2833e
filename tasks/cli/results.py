"""Results of jobs, as tables and as JSON."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import typer
from rich.text import Text

from pattern_storage.storage import ModelResult
from pattern_storage.storage.explanation import one_line
from pattern_storage.tasks.cli.exits import Exit
from pattern_storage.tasks.cli.interrupts import explain_interrupt
from pattern_storage.tasks.cli.output import err, print_json
from pattern_storage.tasks.cli.tables import print_list, print_pairs
from pattern_storage.tasks.client import Job
from pattern_storage.vocabulary import OperationName


def finish(job: Job, wait: float, as_json: bool, error_of: Callable[[ModelResult], str | None] | None = None) -> None:
    """Wait for one job, print what became of it, and exit 1 if it failed; `error_of` words its error for people."""
    if not wait:
        print_id(job.correlation_id, as_json=as_json)
        return
    look = f"'pattern-storage result {job.correlation_id}' tells its result"
    cancel = f"'pattern-storage jobs cancel {job.correlation_id}' cancels it"
    with explain_interrupt(lambda: f"The job {job.correlation_id} goes on: {look}, {cancel}."):
        result = job.result(timeout=wait)
    if error_of is not None and not as_json:
        result = result.model_copy(update={"error": error_of(result)})
    print_result(result, as_json=as_json)
    if not result.success:
        raise typer.Exit(Exit.FAILED)


def print_id(correlation_id: UUID, *, as_json: bool) -> None:
    """Print the id of a job that is not waited for."""
    print_json({"correlation_id": str(correlation_id)}) if as_json else print(correlation_id)  # noqa: T201


def print_result(result: ModelResult, *, as_json: bool) -> None:
    """Print the result of a job."""
    if as_json:
        print_json(result.to_dict())
        return
    operation = result.metadata.get("operation") or "job"
    if not result.success:
        print_failure(result, operation)
    elif operation == OperationName.QUERY:
        _print_patterns(result.data)
    else:
        print_pairs(result.data, title=f"{operation} done")
    err.print(Text(_footer(result.metadata), "dim"))


def print_failure(result: ModelResult, operation: str) -> None:
    """Print why a job failed. The error may quote stored text, which may hold sequences that command a terminal."""
    err.print(Text.assemble((f"{operation} failed ", "bold red"), f"({result.metadata.get('error_type')})"))
    err.print(one_line(str(result.error)))


def _print_patterns(data: Mapping[str, Any]) -> None:
    rows = [
        (
            pattern["id"],
            f"{pattern['pattern_name']} ({pattern['pattern_type']}/{pattern['language']})",
            pattern["confidence_score"],
            datetime.fromisoformat(pattern["updated_at"]),
        )
        for pattern in data["patterns"]
    ]
    print_list(("id", "pattern", "confidence", "updated (UTC)"), rows, title=f"{data['count']} found")
    if data["next_cursor"]:
        err.print(Text(f"There are more: add --cursor {data['next_cursor']}", "dim"))


def _footer(metadata: Mapping[str, Any]) -> str:
    duration = metadata.get("duration_ms")
    # A job that was cancelled took none.
    took = f", {duration:.1f} ms in the worker" if duration else ""
    return f"correlation id {metadata.get('correlation_id')}{took}"
