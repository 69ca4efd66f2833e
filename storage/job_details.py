"""Details of one job as PostgreSQL knows them: its timeline, and its links to other jobs. Never its template code."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row, scalar_row

from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.storage.job_row import JobRow
from pattern_storage.storage.jobs import list_jobs
from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import FINAL_STATES, IMPORT_OPERATION, JobState, ListedState

#: Events of a job's timeline; that of a job that did not commit ends with its state.
SUBMITTED, CLAIMED, STARTED, COMMITTED = "submitted", "claimed", "started", "committed"
FAILED_ATTEMPT, STORED = "attempt failed", "result stored"


@dataclass(frozen=True)
class Event:
    """An event of a job's timeline."""

    at: datetime
    what: str
    error_type: str | None = None
    error: str | None = None
    worker: str | None = None


@dataclass(frozen=True)
class JobDetails:
    """A job, its timeline in order of time, and its links.

    Attributes:
        job: as in a list.
        events: its timeline; times are those of the clocks of PostgreSQL and of the workers.
        can_be_retried: whether it can be sent again under a new id: it failed or was cancelled, and its contract is
            known.
        pattern_id: of the pattern that it wrote; of a batch, the first.
        retried_from: the failed job that this one was sent again for.
        retries: jobs that were sent again for this one, the oldest first.
    """

    job: JobRow
    events: list[Event]
    can_be_retried: bool = False
    pattern_id: UUID | None = None
    retried_from: UUID | None = None
    retries: list[UUID] = field(default_factory=list)

    @property
    def is_dead_letter(self) -> bool:
        """Whether it is a dead letter."""
        return self.job.state == ListedState.DEAD

    @property
    def is_import(self) -> bool:
        """Whether it is a run of an import, with a page of its own."""
        return self.job.operation == IMPORT_OPERATION


async def find_job(connection: Connection, correlation_id: UUID) -> JobDetails | None:
    """Return a job; None if PostgreSQL does not know it: it waits in the broker, is a query, or is forgotten."""
    jobs = (await list_jobs(connection, JobFilter(correlation_id=correlation_id))).jobs
    if not jobs:
        return None
    values = {"correlation_id": correlation_id}
    rows = await fetch_all(connection, dict_row, block("find_ended_job"), values)
    ended = rows[0] if rows else {}
    open_errors = list(filter(None, await fetch_all(connection, scalar_row, block("find_attempt_errors"), values)))
    links = await fetch_all(connection, dict_row, block("find_retries"), values)
    own = next((link for link in links if link["correlation_id"] == correlation_id), None)
    before = (own and own["errors"]) or []
    errors = [*before, *(ended.get("errors") or (open_errors[0] if open_errors else []))]
    return JobDetails(
        jobs[0],
        # The death of a letter that was replayed is recorded twice for as long as it is there.
        sorted(
            {(event.at, event.what): event for event in _events(jobs[0], ended.get("claimed_at"), errors)}.values(),
            key=lambda event: event.at,
        ),
        can_be_retried=bool(ended.get("has_contract")) and jobs[0].state != JobState.SUCCESS,
        pattern_id=_id(ended.get("pattern_id")),
        retried_from=own["retried_from"] if own and own["retried_from"] != correlation_id else None,
        retries=[
            link["correlation_id"] for link in links if link["retried_from"] == correlation_id and link is not own
        ],
    )


def _events(job: JobRow, claimed_at: datetime | None, attempts: list[dict[str, Any]]) -> Iterator[Event]:
    sent_at = job.sent_at or next((at for attempt in attempts if (at := _unix_time(attempt, "sent_at"))), None)
    if sent_at is not None:
        yield Event(sent_at, SUBMITTED)
    for attempt in attempts:
        at, worker, duration = datetime.fromisoformat(attempt["at"]), attempt.get("worker"), attempt.get("duration_ms")
        if claimed := _unix_time(attempt, "claimed_at"):
            yield Event(claimed, CLAIMED, worker=worker)
        if duration is not None:
            yield Event(at - timedelta(milliseconds=duration), STARTED, worker=worker)
        what = attempt.get("what", FAILED_ATTEMPT)
        yield Event(at, what, attempt.get("error_type"), attempt.get("error"), worker)
    if claimed_at is not None:
        yield Event(claimed_at, CLAIMED, worker=job.worker)
    if job.state in FINAL_STATES or job.state == ListedState.DEAD:
        if job.duration_ms is not None:
            yield Event(job.at - timedelta(milliseconds=job.duration_ms), STARTED, worker=job.worker)
        # A job that failed has committed nothing but its outcome.
        yield Event(job.at, COMMITTED if job.state == JobState.SUCCESS else str(job.state), job.error_type, job.error)
    elif job.state == ListedState.STARTED:
        yield Event(job.at, STARTED, worker=job.worker)


def _id(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _unix_time(attempt: dict[str, Any], name: str) -> datetime | None:
    """Return a time of an attempt; older releases have recorded none."""
    value = attempt.get(name)
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else None
