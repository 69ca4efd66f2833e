"""Jobs as tables and as JSON."""

from datetime import datetime
from typing import Any

from pattern_storage.storage.job_details import SUBMITTED, Event, JobDetails
from pattern_storage.storage.job_labels import JobLabel
from pattern_storage.storage.job_row import JobRow
from pattern_storage.tasks.cli.output import utc
from pattern_storage.tasks.cli.tables import print_pairs, print_table
from pattern_storage.tasks.operate.waiting_message import WaitingMessage


def job_row(job: JobRow, label: JobLabel | None) -> tuple[Any, ...]:
    """Return the cells of a job in a list."""
    return job.correlation_id, job.state, job.at, _title(job, label), job.error_type, job.error


def message_row(message: WaitingMessage) -> tuple[Any, ...]:
    """Return the cells of a job that waits in the broker."""
    return message.id, message.state, message.sent_at, message.description, None, None


def plain_job(job: JobRow) -> dict[str, Any]:
    """Return a job as JSON has it."""
    times = {name: value.isoformat() for name, value in vars(job).items() if isinstance(value, datetime)}
    return vars(job) | times | {"correlation_id": str(job.correlation_id), "waited_ms": job.waited_ms}


def plain_message(message: WaitingMessage) -> dict[str, Any]:
    """Return a job that waits in the broker as JSON has it."""
    return {
        "correlation_id": message.id, "operation": message.operation, "pattern_name": message.pattern_name,
        "description": message.description, "state": message.state, "queue": message.queue,
        "sent_at": message.sent_at and message.sent_at.isoformat(), "eta": message.eta and message.eta.isoformat(),
        "retries": message.retries,
    }  # fmt: skip


def plain_details(found: JobDetails) -> dict[str, Any]:
    """Return all that is known of a job as JSON has it."""
    return plain_job(found.job) | {
        "timeline": [vars(event) | {"at": event.at.isoformat()} for event in found.events],
        "can_be_retried": found.can_be_retried,
        "pattern_id": found.pattern_id and str(found.pattern_id),
        "retried_from": found.retried_from and str(found.retried_from),
        "retries": [str(job) for job in found.retries],
    }


def plain_message_details(message: WaitingMessage) -> dict[str, Any]:
    """Return all that is known of a job that no worker has ended yet, and of which only its message tells."""
    submitted = [] if message.sent_at is None else [vars(Event(message.sent_at, SUBMITTED))]
    return plain_message(message) | {"timeline": [event | {"at": event["at"].isoformat()} for event in submitted]}


def print_message_details(message: WaitingMessage) -> None:
    """Print what the message of a job tells."""
    shown = {
        "correlation id": message.id,
        "state": message.state,
        "queue": message.queue,
        "begins at (UTC)": message.eta and utc(message.eta),
        "attempts": message.retries + 1 if message.retries else None,
    }
    print_pairs({name: value for name, value in shown.items() if value is not None}, title=message.description)
    if message.sent_at is not None:
        print_table(("time (UTC)", "what", "how"), [(utc(message.sent_at), SUBMITTED, None)])


def _title(job: JobRow, label: JobLabel | None) -> str:
    return str(label or f"{job.operation or 'job'} {job.pattern_name or ''}".rstrip())


def print_details(found: JobDetails, label: JobLabel | None) -> None:
    """Print all that is known of a job, with its timeline."""
    shown = {
        "correlation id": found.job.correlation_id,
        **{name: getattr(found.job, name) for name in ("state", "queue", "worker", "attempts")},
        "duration, ms": None if found.job.duration_ms is None else f"{found.job.duration_ms:.1f}",
        "waited, ms": None if found.job.waited_ms is None else f"{found.job.waited_ms:.1f}",
        "patterns": label and label.patterns,
        "pattern id" if label is None or label.patterns is None else "first pattern id": found.pattern_id,
        "sent again for": found.retried_from,
        "sent again as": "\n".join(map(str, found.retries)) or None,
        "error type": found.job.error_type,
        "error": found.job.error,
    }
    shown = {name: value for name, value in shown.items() if value is not None}
    print_pairs(shown, title=_title(found.job, label))
    rows = [(utc(event.at), event.what, event.error or event.worker) for event in found.events]
    print_table(("time (UTC)", "what", "how"), rows)
