"""The client for asyncio: the same answers, without a thread or a connection for each job that is awaited."""

import asyncio
from uuid import uuid4

import pytest
import redis

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.tasks.client import (
    AsyncPatternStorageClient,
    BrokerUnavailable,
    JobTimeout,
    ResultBackendUnavailable,
)
from tests.fix_celery import BLOCKED, StorageWorker, locked_patterns, worker_connections
from tests.fix_process import DEADLINE
from tests.fix_storage import contract, make_pattern, until


async def test_each_method(served_async_client: AsyncPatternStorageClient) -> None:
    client, tag, chosen = served_async_client, str(uuid4()), uuid4()
    job = await client.insert(make_pattern(tags=[tag]), correlation_id=chosen)
    assert job.correlation_id == chosen
    assert repr(job) == f"AsyncJob('{chosen}')"
    pattern_id = (await job.result(DEADLINE)).data["pattern_id"]
    assert await job.status() == "SUCCESS"
    updated = await (await client.update(pattern_id, {"usage_count": 3})).result(DEADLINE)
    assert updated.data["fields_updated"] == ["usage_count"]
    batch = await (await client.batch_insert([make_pattern(tags=[tag])])).result(DEADLINE)
    assert batch.data["count"] == 1
    found = await (await client.query(tags_any=[tag])).result(DEADLINE)
    assert sorted(record["usage_count"] for record in found.data["patterns"]) == [0, 3]
    assert (await (await client.delete(pattern_id)).result(DEADLINE)).success
    again = await (await client.delete(pattern_id)).result(DEADLINE)
    assert again.error == f"Pattern not found: {pattern_id}"
    assert (await client.get(str(chosen)).result(DEADLINE)).success


async def test_jobs_submitted_in_one_gather(served_async_client: AsyncPatternStorageClient) -> None:
    jobs = await asyncio.gather(*(served_async_client.insert(make_pattern()) for _ in range(30)))
    assert len({job.correlation_id for job in jobs}) == 30
    results = await asyncio.gather(*(job.result(DEADLINE) for job in jobs))
    assert all(result.success for result in results)


async def test_status_of_a_running_job(served_async_client: AsyncPatternStorageClient, worker: StorageWorker) -> None:
    with locked_patterns(worker.database_url):
        job = await served_async_client.insert(make_pattern())

        async def blocked() -> list[int]:
            return worker_connections(worker.database_url, BLOCKED)

        await until(blocked)

        async def started() -> bool:
            return await job.status() == "STARTED"

        await until(started)
    assert (await job.result(DEADLINE)).success


async def test_before_a_worker_has_it(async_client: AsyncPatternStorageClient) -> None:
    assert await async_client.get(uuid4()).status() == "UNKNOWN"
    job = await async_client.insert(make_pattern())
    assert await job.status() == "QUEUED"
    with pytest.raises(JobTimeout) as caught:
        await job.result(timeout=0.05)
    assert caught.value.correlation_id == job.correlation_id
    assert (caught.value.timeout, caught.value.status) == (0.05, "QUEUED")


async def test_contract_is_checked_before_it_is_sent(
    async_client: AsyncPatternStorageClient, store: "redis.Redis"
) -> None:
    good, bad = (contract("insert", data=make_pattern(confidence_score=score)) for score in (0.5, 2))
    with pytest.raises(ContractInvalid, match=r"^contract 1: confidence_score should be ") as caught:
        await async_client.submit_many([good, bad])
    assert caught.value.contract_index == 1
    with pytest.raises(ContractInvalid, match="missing required fields"):
        await async_client.insert({})  # type: ignore[arg-type]
    assert store.keys() == []


@pytest.mark.parametrize("address", ["absent_url", "deaf_url"])
async def test_server_that_does_not_answer(address: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(address)
    async with asyncio.timeout(DEADLINE), AsyncPatternStorageClient(redis_url=url, connect_timeout=0.2) as client:
        with pytest.raises(BrokerUnavailable, match=r"^the queue does not answer: "):
            await client.insert(make_pattern())
        with pytest.raises(ResultBackendUnavailable, match=r"^the result backend does not answer: "):
            await client.get(uuid4()).status()
        with pytest.raises(ResultBackendUnavailable):
            await client.get(uuid4()).result(DEADLINE)


async def test_closing_leaves_no_connection(lone_valkey: EmbeddedValkey) -> None:
    async with redis.asyncio.Redis.from_url(lone_valkey.url) as operator:
        async with AsyncPatternStorageClient(redis_url=lone_valkey.url) as client:
            job = await client.insert(make_pattern())
            with pytest.raises(JobTimeout):
                await job.result(timeout=0.01)

        async def alone() -> bool:
            return len(await operator.client_list()) == 1

        await until(alone)
