"""The job of every peer: one pattern into the real table, in one explicit transaction, its row's key as the result.

The programs beside this module run in environments of their own, where nothing of ours is installed.
"""

import asyncio
import os
import threading
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

DATABASE_URL = os.environ["DATABASE_URL"]
REDIS_URL = os.environ["REDIS_URL"]
#: Seconds until a result that has not come is an error.
TIMEOUT = 60
#: Jobs of one process at a time, where its library runs several: more gained nothing in any of them.
CONCURRENCY = 16

COLUMNS = (
    "pattern_name", "pattern_type", "language", "category", "template_code", "description", "example_usage",
    "source", "complexity_score", "tags", "context",
)  # fmt: skip
INSERT = (
    f"INSERT INTO pattern_templates ({', '.join(COLUMNS)}) VALUES ({', '.join(f'%({name})s' for name in COLUMNS)}) "
    "RETURNING id, pattern_name, created_at"
)
#: For queues that keep no results: the result goes into a table of its own, in the job's transaction.
INSERT_AND_KEEP = (
    f"WITH done AS ({INSERT}), kept AS (INSERT INTO bench_results SELECT %(job)s, to_jsonb(done) FROM done) "
    "SELECT * FROM done"
)
CREATE_RESULTS = "CREATE TABLE IF NOT EXISTS bench_results (job bigint PRIMARY KEY, result jsonb NOT NULL)"

_local = threading.local()


def insert(pattern: dict[str, Any]) -> dict[str, str]:
    """Do the job on this thread's own connection, which stays open."""
    if not hasattr(_local, "connection"):
        _local.connection = psycopg.connect(DATABASE_URL, autocommit=True)
    with _local.connection.transaction():
        row = _local.connection.execute(INSERT, _values(pattern)).fetchone()
    return _result(row)


def open_pool() -> AsyncConnectionPool:
    """Return a pool for `insert_async`; it is opened on the loop that uses it."""
    return AsyncConnectionPool(DATABASE_URL, min_size=2, max_size=CONCURRENCY, open=False, kwargs={"autocommit": True})


async def insert_async(pool: AsyncConnectionPool, pattern: dict[str, Any], job: int | None = None) -> dict[str, str]:
    """Do the job on a connection of the pool; with the number of a job, keep its result in PostgreSQL too."""
    statement, values = (INSERT, {}) if job is None else (INSERT_AND_KEEP, {"job": job})
    async with pool.connection() as connection, connection.transaction():
        cursor = await connection.execute(statement, _values(pattern) | values)
        row = await cursor.fetchone()
    return _result(row)


async def kept_result(pool: AsyncConnectionPool, job: int) -> dict[str, str]:
    """Return the result that `insert_async` kept, looking for it every 2 ms."""
    async with asyncio.timeout(TIMEOUT), pool.connection() as connection:
        while True:
            cursor = await connection.execute("SELECT result FROM bench_results WHERE job = %s", (job,))
            if row := await cursor.fetchone():
                return {"pattern_id": row[0]["id"]}
            await asyncio.sleep(0.002)


def _values(pattern: dict[str, Any]) -> dict[str, Any]:
    return pattern | {"context": Jsonb(pattern["context"])}


def _result(row: Any) -> dict[str, str]:
    return {"pattern_id": str(row[0]), "pattern_name": row[1], "created_at": row[2].isoformat()}
