"""Full tables of jobs that have not ended, and a connection that counts the rows which its statements read."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import scalar_row

from pattern_storage.storage import jobs
from pattern_storage.storage.job_filter import Cursor, JobFilter
from pattern_storage.storage.job_row import JobRow
from pattern_storage.storage.rows import Connection

#: Rows of each table: three times as many as a page may search.
ROWS = 30_000
NEWEST = datetime(2026, 1, 2, tzinfo=UTC)
MIDDLE = Cursor(NEWEST - timedelta(seconds=ROWS // 2), UUID(int=0))
LAST = Cursor(NEWEST - timedelta(seconds=ROWS - 20), UUID(int=0))

#: A third of the outbox has begun and is hidden there. The oldest job of each table but one is a delete.
FILL = (
    f"""INSERT INTO outbox (correlation_id, contract, created_at, publish_after)
        SELECT gen_random_uuid(), json_build_object('operation', CASE n WHEN {ROWS - 1} THEN 'delete' ELSE 'insert' END,
            'data', json_build_object('pattern_name', 'pattern ' || n)),
            '{NEWEST}'::timestamptz - n * interval '1 second', now() + interval '1 day'
        FROM generate_series(1, {ROWS}) AS n""",
    f"""INSERT INTO job_attempts (correlation_id, first_at, operation, errors)
        SELECT CASE WHEN n % 3 = 0 THEN correlation_id ELSE gen_random_uuid() END, created_at,
            CASE n WHEN {ROWS - 1} THEN 'delete' ELSE 'insert' END, '[{{"error_type": "x"}}]'
        FROM (SELECT *, row_number() OVER (ORDER BY created_at DESC) AS n FROM outbox) AS job""",
    f"""INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at, died_at, operation)
        SELECT gen_random_uuid(), '{{}}', 'x', 'x', 5, created_at, created_at,
            CASE n WHEN {ROWS - 1} THEN 'delete' ELSE 'insert' END
        FROM (SELECT *, row_number() OVER (ORDER BY created_at DESC) AS n FROM outbox) AS job""",
    "VACUUM ANALYZE",
)


class CountingCursor(psycopg.AsyncCursor[Any]):
    """Explains each statement before it executes it, and adds up the rows that it reads in its connection's `read`."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        connection: Any = self.connection
        text = query if isinstance(query, str) else query.as_string(connection)
        explaining = psycopg.AsyncCursor(connection, row_factory=scalar_row)
        await explaining.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {text}".encode(), params, prepare=False)
        [[plan]] = await explaining.fetchall()
        connection.read += sum(rows_read(plan["Plan"]))
        return await super().execute(query, params, **options)


class CountingConnection(psycopg.AsyncConnection[Any]):
    """A connection that knows how many rows its statements have read."""

    read = 0


def rows_read(plan: dict[str, Any]) -> Iterator[int]:
    """The rows that each scan of an executed plan looked at, those it threw away included."""
    if "Relation Name" in plan:
        counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        yield round(sum(plan.get(key, 0) for key in counted) * plan["Actual Loops"])
    for child in plan.get("Plans", ()):
        yield from rows_read(child)


@pytest.fixture(scope="module")
def full_url(shared_database_url: str) -> str:
    """A database with the full tables, their statistics fresh."""
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        for statement in FILL:
            connection.execute(statement.encode())
    return shared_database_url


@pytest.fixture
async def full(full_url: str) -> AsyncIterator[CountingConnection]:
    """A counting connection to the full tables."""
    async with await CountingConnection.connect(full_url, autocommit=True, cursor_factory=CountingCursor) as connection:
        yield connection


async def all_jobs(connection: Connection, wanted: JobFilter, *, descending: bool, limit: int = 50) -> list[JobRow]:
    """Return the jobs of all pages."""
    found: list[JobRow] = []
    after = None
    while True:
        page = await jobs.list_jobs(connection, wanted, descending=descending, after=after, limit=limit)
        found += page.jobs
        if (after := page.next) is None:
            return found
