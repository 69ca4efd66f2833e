"""pattern-storage with its asyncio client."""

from typing import Any

from work import TIMEOUT

from pattern_storage import AsyncPatternStorageClient, ModelContractPatternStorage
from pattern_storage.tasks.client.job import AsyncJob

client = AsyncPatternStorageClient()


async def enqueue(pattern: dict[str, Any]) -> AsyncJob:
    return await client.insert(pattern)


async def enqueue_many(patterns: list[dict[str, Any]]) -> list[AsyncJob]:
    contracts = [ModelContractPatternStorage(operation="insert", data=pattern) for pattern in patterns]
    return await client.submit_many(contracts)


async def result(job: AsyncJob) -> dict[str, Any]:
    done = await job.result(timeout=TIMEOUT)
    if not done.success:
        raise RuntimeError(done.error)
    return dict(done.data)
