"""Stock Celery: JSON, early acknowledgement, no events, no repr of the arguments, bulk through kombu's batches."""

from typing import Any

from celery import Celery
from celery.result import AsyncResult
from work import REDIS_URL, TIMEOUT, insert

app = Celery("bench", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(worker_prefetch_multiplier=16, result_expires=3600, broker_connection_retry_on_startup=True)
task = app.task(insert, name="insert")


def enqueue(pattern: dict[str, Any]) -> AsyncResult:
    return task.apply_async((pattern,), argsrepr="", kwargsrepr="")


def enqueue_many(patterns: list[dict[str, Any]]) -> list[AsyncResult]:
    with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=500):
        return [task.apply_async((p,), argsrepr="", kwargsrepr="", producer=producer) for p in patterns]


def result(job: AsyncResult) -> dict[str, Any]:
    return job.get(timeout=TIMEOUT)
