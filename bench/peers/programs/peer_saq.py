"""saq: its Redis queue, uvloop, results awaited on its publish/subscribe channel."""

import asyncio
from contextlib import suppress
from typing import Any

from saq import Job, Queue
from work import CONCURRENCY, REDIS_URL, TIMEOUT, insert_async, open_pool

queue = Queue.from_url(REDIS_URL, name="bench")


async def startup(context: dict[str, Any]) -> None:
    context["pool"] = open_pool()
    await context["pool"].open()


async def insert(context: dict[str, Any], *, pattern: dict[str, Any]) -> dict[str, str]:
    return await insert_async(context["pool"], pattern)


settings = {"queue": queue, "functions": [insert], "concurrency": CONCURRENCY, "startup": startup}


async def start() -> None:
    await queue.connect()


async def enqueue(pattern: dict[str, Any]) -> Job | None:
    return await queue.enqueue("insert", pattern=pattern, ttl=3600)


async def enqueue_many(patterns: list[dict[str, Any]]) -> list[Job | None]:
    return await asyncio.gather(*map(enqueue, patterns))


async def result(job: Job) -> dict[str, Any]:
    # It looks and then listens, and misses what is published in between: so look again every 50 ms.
    async with asyncio.timeout(TIMEOUT):
        while not job.completed:
            with suppress(TimeoutError):
                await job.refresh(until_complete=0.05)
    if job.error:
        raise RuntimeError(job.error)
    return job.result
