"""taskiq: list queue and results in Redis, uvloop, results polled for every 2 ms (it cannot wait for one)."""

import asyncio
from typing import Any

from taskiq import AsyncTaskiqTask, TaskiqEvents
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend
from work import REDIS_URL, TIMEOUT, insert_async, open_pool

broker = ListQueueBroker(REDIS_URL).with_result_backend(RedisAsyncResultBackend(REDIS_URL, result_ex_time=3600))


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_connections(state: Any) -> None:
    state.pool = open_pool()
    await state.pool.open()


@broker.task
async def insert(pattern: dict[str, Any]) -> dict[str, str]:
    return await insert_async(broker.state.pool, pattern)


async def start() -> None:
    await broker.startup()


async def enqueue(pattern: dict[str, Any]) -> AsyncTaskiqTask:
    return await insert.kiq(pattern)


async def enqueue_many(patterns: list[dict[str, Any]]) -> list[AsyncTaskiqTask]:
    return await asyncio.gather(*map(insert.kiq, patterns))


async def result(job: AsyncTaskiqTask) -> dict[str, Any]:
    return (await job.wait_result(check_interval=0.002, timeout=TIMEOUT)).return_value
