"""Jobs as operators look for them, in all tables that know of one: ledger, dead letters, attempts, outbox, imports.

What waits in the broker is in none of these, since enqueueing writes nothing to PostgreSQL; see `tasks.operate.queues`.
Pages are keyset pages: each costs the same wherever it is, in a ledger of a million jobs as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest, nsmallest
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import class_row
from psycopg.sql import SQL, Composed

from pattern_storage.storage import open_jobs
from pattern_storage.storage.errors import FilterInvalid
from pattern_storage.storage.job_filter import SORTS, Cursor, JobFilter
from pattern_storage.storage.job_row import JobRow
from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import ListedState

#: Jobs in a page at most.
MAX_LIMIT = 1_000
#: Jobs are counted up to here: beyond, the number changes faster than anybody reads it.
COUNT_LIMIT = 100_000

#: Newest jobs among which a list by duration finds those of less than 100 ms, which no index has.
QUICK = 100_000

#: Condition for what follows a cursor, by sort.
BEYOND: dict[str, LiteralString] = {
    "time": block("job_is_beyond_time"),
    "duration": block("job_is_beyond_duration"),
}

ENDED = (ListedState.SUCCESS, ListedState.FAILURE, ListedState.REVOKED)


@dataclass(frozen=True)
class JobPage:
    """Jobs of a page, and the cursor of the next page; None at the end.

    A page with a next one may have fewer jobs than asked for, or none: where very many jobs have not ended, the filter
    was looked for in `open_jobs.SEARCHED` of them. `is_full` says whether it has all that were asked for.
    """

    jobs: list[JobRow]
    next: Cursor | None
    is_full: bool


async def list_jobs(
    connection: Connection,
    wanted: JobFilter,
    *,
    sort: str = "time",
    descending: bool = True,
    after: Cursor | None = None,
    limit: int = 50,
) -> JobPage:
    """Return a page of the jobs that PostgreSQL knows. Raises FilterInvalid.

    Sorted by duration it has only jobs that have ended: all that took 100 ms or longer, and the quicker ones among the
    last QUICK.
    """
    if sort not in SORTS:
        raise FilterInvalid(f"sort is {sort!r}; it should be {' or '.join(SORTS)}")
    if not 1 <= limit <= MAX_LIMIT:
        raise FilterInvalid(f"limit is {limit}; it should be 1 to {MAX_LIMIT:,}")
    if after is not None and isinstance(after.value, float) != (sort == "duration"):
        raise FilterInvalid("cursor belongs to a list in another order; leave it out to begin")
    values = _values(wanted, after) | {"limit": limit + 1, "last": QUICK}
    key = _by_time if sort == "time" else _by_duration
    found: list[JobRow] = []
    end = None
    if sort == "time":
        found, end = await open_jobs.list_jobs(connection, wanted, values, descending=descending)
    for state in _ended_states(wanted):
        for statement in _ended_lists(wanted, state, sort, after, descending):
            ended = await _rows(connection, statement, values | {"state": state})
            found += ended
            if len(ended) > limit:
                break
    by_id = {job.correlation_id: job for job in found}
    jobs = (nlargest if descending else nsmallest)(limit + 1, by_id.values(), key=key)
    if end is not None:
        # Behind the end of the search there may be others among them.
        place = end.value, end.correlation_id
        jobs = [job for job in jobs if (key(job) >= place if descending else key(job) <= place)]
    if len(jobs) > limit:
        return JobPage(jobs[:limit], Cursor(key(jobs[limit - 1])[0], jobs[limit - 1].correlation_id), True)
    return JobPage(jobs, end, end is None)


async def count_jobs(
    connection: Connection, wanted: JobFilter, *, limit: int = COUNT_LIMIT, can_be_retried: bool = False
) -> int:
    """Return how many jobs PostgreSQL knows; `limit` stands for that many or more.

    `can_be_retried`: of those that have ended, count only what an operator can send again and has not yet.
    """
    return (await _count(connection, wanted, limit, can_be_retried, everywhere=True))[0]


async def estimate(connection: Connection, wanted: JobFilter, *, limit: int = COUNT_LIMIT) -> tuple[int, bool]:
    """Return how many jobs there are at least, and whether there are no more.

    It costs no more where very many jobs have not ended: of each table it looks at the newest `open_jobs.SEARCHED`.
    """
    return await _count(connection, wanted, limit, can_be_retried=False, everywhere=False)


async def _count(
    connection: Connection, wanted: JobFilter, limit: int, can_be_retried: bool, *, everywhere: bool
) -> tuple[int, bool]:
    values = _values(wanted)
    total, whole = await open_jobs.count_jobs(connection, wanted, values, limit=limit, everywhere=everywhere)
    for state in _ended_states(wanted):
        if total >= limit:
            break
        filters = _filters(wanted, state, "time")
        if can_be_retried:
            filters = SQL(" AND ").join([filters, SQL(block("job_can_be_retried"))])
        statement = SQL(block("count_ended_jobs")).format(filters=filters)
        total += await fetch_value(connection, statement, values | {"state": state, "limit": limit - total})
    return total, whole and total < limit


def _by_time(job: JobRow) -> tuple[datetime, UUID]:
    return job.at, job.correlation_id


def _by_duration(job: JobRow) -> tuple[float, UUID]:
    return job.duration_ms or 0.0, job.correlation_id


def _ended_states(wanted: JobFilter) -> tuple[ListedState | None, ...]:
    """Return the wanted states, each of which is read from an index of its own, or None for all at once."""
    among = wanted.among(*ENDED)
    # No index has two states in one order.
    return (None,) if len(among) == len(ENDED) else among


def _ended_lists(
    wanted: JobFilter, state: ListedState | None, sort: str, after: Cursor | None, descending: bool
) -> Iterator[Composed]:
    """Yield the statements that list jobs which have ended; the next one is for a page that is not full yet."""
    direction = SQL("DESC" if descending else "ASC")
    beyond = SQL(BEYOND[sort] if after else "true").format(beyond=SQL("<" if descending else ">"))
    filters = _filters(wanted, state, sort)
    # With the table's name: the list's own columns of these names are in no index.
    if sort == "time" or descending:
        order = SQL("job_ledger.finished_at" if sort == "time" else "job_ledger.duration_ms")
        # The slowest are in an index of their own.
        own = [filters, beyond, *([SQL(block("job_is_slow"))] if sort == "duration" else [])]
        yield SQL(block("list_ended_jobs")).format(filters=SQL(" AND ").join(own), order=order, direction=direction)
    if sort == "duration":
        yield SQL(block("list_quick_jobs")).format(filters=filters, beyond=beyond, direction=direction)


def _values(wanted: JobFilter, after: Cursor | None = None) -> dict[str, Any]:
    return {
        **{name: value for name, value in vars(wanted).items() if name != "states"},
        "cursor_id": after and after.correlation_id,
        "cursor_at": after.value if after and isinstance(after.value, datetime) else None,
        "cursor_duration": after.value if after and isinstance(after.value, float) else None,
    }


def _filters(wanted: JobFilter, state: ListedState | None, sort: str) -> Composed:
    """Return the given conditions on the ledger alone, so that PostgreSQL finds the index for them."""
    conditions = {
        block("job_has_state"): state,
        # Rows of an older release that are not described yet are in no list.
        block("job_is_described"): state is None or None,
        block("job_has_operation"): wanted.operation,
        block("job_has_error_type"): wanted.error_type,
        block("job_has_pattern_name"): wanted.pattern_name,
        block("job_has_queue"): wanted.queue,
        block("job_has_id"): wanted.correlation_id,
        block("job_is_since"): wanted.since,
        block("job_is_until"): wanted.until,
        block("job_has_duration"): True if sort == "duration" else None,
    }
    return SQL(" AND ").join(SQL(text) for text, value in conditions.items() if value is not None)


async def _rows(connection: Connection, statement: Composed, values: dict[str, Any]) -> list[JobRow]:
    return await fetch_all(connection, class_row(JobRow), statement, values, prepare=False)
