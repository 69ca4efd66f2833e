"""PgQueuer: queue in PostgreSQL over an asyncpg pool; it keeps no results, so the job does, in its own transaction."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pgqueuer
import psycopg
import uvloop
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer, Queries
from work import CONCURRENCY, CREATE_RESULTS, DATABASE_URL, insert_async, kept_result, open_pool

pool = open_pool()
queries: Queries


@asynccontextmanager
async def main() -> AsyncIterator[PgQueuer]:
    """Yield what `pgqueuer run` runs."""
    await pool.open()
    queue = PgQueuer.from_asyncpg_pool(await asyncpg.create_pool(DATABASE_URL, min_size=2, max_size=CONCURRENCY))

    @queue.entrypoint("insert")
    async def insert(job: Job) -> None:
        await insert_async(pool, json.loads(job.payload), job.id)

    yield queue


async def start() -> None:
    global queries
    with psycopg.connect(DATABASE_URL, autocommit=True) as connection:
        connection.execute(CREATE_RESULTS)
    await pool.open()
    queries = Queries(AsyncpgPoolDriver(await asyncpg.create_pool(DATABASE_URL, min_size=2, max_size=4)))
    if not await queries.has_table("pgqueuer"):
        await queries.install()


async def enqueue(pattern: dict[str, Any]) -> int:
    return (await queries.enqueue("insert", json.dumps(pattern).encode()))[0]


async def enqueue_many(patterns: list[dict[str, Any]]) -> list[int]:
    payloads: list[bytes | None] = [json.dumps(pattern).encode() for pattern in patterns]
    return list(await queries.enqueue(["insert"] * len(payloads), payloads, [0] * len(payloads)))


async def result(job: int) -> dict[str, Any]:
    return await kept_result(pool, job)


if __name__ == "__main__":
    # Its own command line does not start with the newest typer: the default of its --log-level is no level.
    uvloop.run(pgqueuer.run(main, batch_size=CONCURRENCY, max_concurrent_tasks=2 * CONCURRENCY))
