"""arq: polls the queue every 10 ms, where its default is half a second, and results every 2 ms."""

import asyncio
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job
from work import CONCURRENCY, REDIS_URL, TIMEOUT, insert_async, open_pool

redis: ArqRedis


async def startup(context: dict[str, Any]) -> None:
    context["pool"] = open_pool()
    await context["pool"].open()


async def insert(context: dict[str, Any], pattern: dict[str, Any]) -> dict[str, str]:
    return await insert_async(context["pool"], pattern)


class WorkerSettings:
    functions = (insert,)
    redis_settings = RedisSettings.from_dsn(REDIS_URL)
    on_startup = startup
    max_jobs = CONCURRENCY
    poll_delay = 0.01
    log_results = False


async def start() -> None:
    global redis
    redis = await create_pool(WorkerSettings.redis_settings)


async def enqueue(pattern: dict[str, Any]) -> Job | None:
    return await redis.enqueue_job("insert", pattern)


async def enqueue_many(patterns: list[dict[str, Any]]) -> list[Job | None]:
    found: list[Job | None] = []
    for first in range(0, len(patterns), 100):  # each of them takes a connection
        found += await asyncio.gather(*map(enqueue, patterns[first : first + 100]))
    return found


async def result(job: Job) -> dict[str, Any]:
    return await job.result(timeout=TIMEOUT, poll_delay=0.002)
