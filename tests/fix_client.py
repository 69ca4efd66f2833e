"""Clients on this test's own Redis and on the shared worker's, and applications that know nothing of ours."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client import AsyncPatternStorageClient, PatternStorageClient
from tests.fix_celery import StorageWorker
from tests.fix_process import DEADLINE

Send = Callable[..., ModelResult]


@pytest.fixture
def client(redis_url: str) -> Iterator[PatternStorageClient]:
    """A client on this test's own Redis: without `start_worker` nobody does its jobs."""
    with PatternStorageClient(redis_url=redis_url) as opened:
        yield opened


@pytest.fixture
async def async_client(redis_url: str) -> AsyncIterator[AsyncPatternStorageClient]:
    """The same with await."""
    async with AsyncPatternStorageClient(redis_url=redis_url) as opened:
        yield opened


@pytest.fixture
def knowing_client(database_url: str, redis_url: str) -> Iterator[PatternStorageClient]:
    """A client on this test's own Redis that may ask PostgreSQL too."""
    with PatternStorageClient(database_url=database_url, redis_url=redis_url) as opened:
        yield opened


@pytest.fixture
def served_client(worker: StorageWorker) -> Iterator[PatternStorageClient]:
    """A client whose jobs the shared `worker` does."""
    with PatternStorageClient(redis_url=worker.redis_url) as opened:
        yield opened


@pytest.fixture
async def served_async_client(worker: StorageWorker) -> AsyncIterator[AsyncPatternStorageClient]:
    """The same with await."""
    async with AsyncPatternStorageClient(redis_url=worker.redis_url) as opened:
        yield opened


@pytest.fixture
def served_knowing_client(worker: StorageWorker) -> Iterator[PatternStorageClient]:
    """A client whose jobs the shared `worker` does, and that may ask PostgreSQL too."""
    with PatternStorageClient(database_url=worker.database_url, redis_url=worker.redis_url) as opened:
        yield opened


@pytest.fixture
async def served_knowing_async_client(worker: StorageWorker) -> AsyncIterator[AsyncPatternStorageClient]:
    """The same with await."""
    async with AsyncPatternStorageClient(database_url=worker.database_url, redis_url=worker.redis_url) as opened:
        yield opened


@pytest.fixture
def plain_app(worker: StorageWorker) -> Iterator[Celery]:
    """A Celery application that knows nothing of ours, on the shared worker's Redis."""
    with Celery("plain", broker=worker.redis_url, backend=worker.redis_url, set_as_current=False) as app:
        yield app


@pytest.fixture
def send(plain_app: Celery, served_client: PatternStorageClient) -> Send:
    """Send a job past our client, which would refuse it, and return its result as our client reads it."""

    def send(
        name: str, kwargs: Any, task_id: str | None = None, timeout: float = DEADLINE, **options: Any
    ) -> ModelResult:
        job_id = task_id or str(uuid4())
        plain_app.send_task(name, kwargs=kwargs, task_id=job_id, queue="storage", **options)
        return served_client.get(job_id).result(timeout)

    return send


@pytest.fixture
def meta(worker: StorageWorker) -> Callable[[Any], dict[str, Any]]:
    """Read what stands in Redis under a job's key."""

    def read(task_id: Any) -> dict[str, Any]:
        with redis.Redis.from_url(worker.redis_url) as connection:
            found: dict[str, Any] = json.loads(connection.get(f"celery-task-meta-{task_id}") or "{}")
            return found

    return read
