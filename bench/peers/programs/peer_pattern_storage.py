"""pattern-storage, as an application uses it: the client, and `celery -A pattern_storage worker` as it is installed."""

from typing import Any

from work import TIMEOUT

from pattern_storage import ModelContractPatternStorage, PatternStorageClient
from pattern_storage.tasks.client.job import Job

client = PatternStorageClient()


def enqueue(pattern: dict[str, Any]) -> Job:
    return client.insert(pattern)


def enqueue_many(patterns: list[dict[str, Any]]) -> list[Job]:
    return client.submit_many(ModelContractPatternStorage(operation="insert", data=pattern) for pattern in patterns)


def result(job: Job) -> dict[str, Any]:
    done = job.result(timeout=TIMEOUT)
    if not done.success:
        raise RuntimeError(done.error)
    return dict(done.data)
