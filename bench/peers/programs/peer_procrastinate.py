"""procrastinate: queue in PostgreSQL; it keeps no results, so the job does, in its own transaction."""

from typing import Any

import psycopg
from procrastinate import App, JobContext, PsycopgConnector
from work import CONCURRENCY, CREATE_RESULTS, DATABASE_URL, insert_async, kept_result, open_pool

app = App(connector=PsycopgConnector(conninfo=DATABASE_URL, min_size=2, max_size=CONCURRENCY))
pool = open_pool()


@app.task(name="insert", pass_context=True)
async def insert(context: JobContext, pattern: dict[str, Any]) -> dict[str, str]:
    await pool.open()  # does nothing the second time
    return await insert_async(pool, pattern, context.job.id)


async def start() -> None:
    with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
        connection.execute(CREATE_RESULTS)
        found = connection.execute("SELECT to_regclass('procrastinate_jobs')").fetchone()
    await pool.open()
    await app.open_async()
    if found == (None,):
        await app.schema_manager.apply_schema_async()


async def enqueue(pattern: dict[str, Any]) -> int:
    return await insert.defer_async(pattern=pattern)


async def enqueue_many(patterns: list[dict[str, Any]]) -> list[int]:
    return await insert.batch_defer_async(*({"pattern": pattern} for pattern in patterns))


async def result(job: int) -> dict[str, Any]:
    return await kept_result(pool, job)
