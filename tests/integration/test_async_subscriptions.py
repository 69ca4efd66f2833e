"""Subscriptions of the asyncio client: few connections for any number of results, none left after a wait."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from pattern_storage import AsyncJob
from pattern_storage.config.settings import Settings
from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.tasks.client import AsyncPatternStorageClient, JobTimeout, ResultBackendUnavailable
from pattern_storage.tasks.client.loop_connections import MAX_CONNECTIONS, LoopConnections
from tests.fix_process import DEADLINE
from tests.fix_storage import contract, make_pattern, until


@pytest.fixture
async def operator(redis_url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    """This test's Redis, beside the client."""
    async with redis.asyncio.Redis.from_url(redis_url) as connection:
        yield connection


def channel_of(job: Any) -> str:
    return f"celery-task-meta-{job.correlation_id}"


async def listeners(operator: "redis.asyncio.Redis", job: Any) -> int:
    ((_, number),) = await operator.pubsub_numsub(channel_of(job))
    return int(number)


async def test_three_hundred_results_over_few_connections(redis_url: str, operator: "redis.asyncio.Redis") -> None:
    contracts = [contract("insert", data=make_pattern()) for _ in range(300)]
    database = (await operator.client_info())["db"]
    before = {each["id"] for each in await operator.client_list()}

    async def connections() -> list[str]:
        new = [each for each in await operator.client_list() if each["id"] not in before]
        # The shared worker is a client of the same server.
        return [each["id"] for each in new if int(each["db"]) == database]

    # The timeout is also that of waiting for one of the connections, which three hundred tasks share.
    async with AsyncPatternStorageClient(redis_url=redis_url, connect_timeout=DEADLINE) as client:
        jobs = await client.submit_many(contracts)
        waits = [asyncio.create_task(job.result(DEADLINE)) for job in jobs]

        async def all_listen() -> bool:
            # One that has failed says why.
            assert [wait.result() for wait in waits if wait.done()] == []
            counts = await operator.pubsub_numsub(*map(channel_of, jobs))
            return all(number == 1 for _, number in counts)

        await until(all_listen)
        assert len(await connections()) <= MAX_CONNECTIONS + 1, "one more publishes"
        # In place of a worker: a table that is locked for as long would have it execute each job alone, and a busy
        # machine needs half a minute for that.
        async with operator.pipeline(transaction=False) as pipeline:
            for job, asked in zip(jobs, contracts, strict=True):
                result = {"success": True, "data": asked.data, "error": None, "metadata": {}}
                document = json.dumps({"status": "SUCCESS", "result": result})
                pipeline.set(channel_of(job), document)
                pipeline.publish(channel_of(job), document)
            await pipeline.execute()
        results = await asyncio.gather(*waits)
        assert [result.data["pattern_name"] for result in results] == [each.data["pattern_name"] for each in contracts]

        async def none_listens() -> bool:
            return not any(number for _, number in await operator.pubsub_numsub(*map(channel_of, jobs)))

        await until(none_listens)


async def test_the_first_subscriptions_share_their_connection(redis_url: str) -> None:
    connections = LoopConnections(Settings(redis_url=redis_url))
    everybody = asyncio.Barrier(5)

    async def subscribe(key: str) -> None:
        async with connections.listener.arrivals([key]):
            await everybody.wait()

    try:
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(subscribe(f"key {number}") for number in range(5)))
        pool: Any = connections.results.connection_pool
        assert len(pool._in_use_connections) + len(pool._available_connections) == 1
    finally:
        await connections.close()


async def test_cancelled_wait_leaves_no_subscription(
    async_client: AsyncPatternStorageClient, operator: "redis.asyncio.Redis"
) -> None:
    job = await async_client.insert(make_pattern())
    first, second = (asyncio.create_task(job.result(DEADLINE)) for _ in range(2))
    await until(lambda: listeners(operator, job))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await listeners(operator, job) == 1
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second

    async def nobody() -> bool:
        return await listeners(operator, job) == 0

    await until(nobody)


async def test_cancellation_is_never_lost(async_client: AsyncPatternStorageClient) -> None:
    """Wherever it strikes, also in the middle of a command to Redis."""
    job = await async_client.insert(make_pattern())
    for steps in range(60):
        waiting = asyncio.create_task(job.result(DEADLINE))
        for _ in range(steps):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_two_that_wait_for_the_same_job(
    async_client: AsyncPatternStorageClient, operator: "redis.asyncio.Redis"
) -> None:
    """Then one that waits after the subscription has ended once."""
    for number in range(2):
        job: AsyncJob[Any] = await async_client.insert(make_pattern())
        waits = [asyncio.create_task(job.result(DEADLINE)) for _ in range(2)]
        await until(lambda job=job: listeners(operator, job))  # type: ignore[misc]
        text = f'{{"status": "SUCCESS", "result": {{"success": true, "data": {number}}}}}'
        await operator.set(channel_of(job), text)
        await operator.publish(channel_of(job), text)
        assert [result.data for result in await asyncio.gather(*waits)] == [number, number]


async def test_wait_longer_than_the_connect_timeout(redis_url: str, operator: "redis.asyncio.Redis") -> None:
    """A subscription on which nothing is said for a while is not a broken one."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with AsyncPatternStorageClient(redis_url=redis_url, connect_timeout=0.2) as client:
        job = await client.insert(make_pattern())
        with pytest.raises(JobTimeout):
            await job.result(timeout=1.0)
        waiting = asyncio.create_task(job.result(DEADLINE))
        await until(lambda: listeners(operator, job))
        text = '{"status": "SUCCESS", "result": {"success": true}}'
        await operator.set(channel_of(job), text)
        await operator.publish(channel_of(job), text)
        assert (await waiting).success
    assert complaints == []


async def test_restart_of_the_server(lone_valkey: EmbeddedValkey) -> None:
    """Who waits is told, with nothing in the application's log besides; whoever waits next is served."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with AsyncPatternStorageClient(redis_url=lone_valkey.url, connect_timeout=10) as client:
        for number in range(2):
            job = await client.insert(make_pattern())
            async with redis.asyncio.Redis.from_url(lone_valkey.url) as operator:
                waiting = asyncio.create_task(job.result(DEADLINE))
                await until(lambda: listeners(operator, job))  # noqa: B023
                if number == 0:
                    lone_valkey.kill()
                    with pytest.raises(ResultBackendUnavailable):
                        await waiting
                    lone_valkey.start()
                    continue
                text = '{"status": "SUCCESS", "result": {"success": true}}'
                await operator.set(channel_of(job), text)
                await operator.publish(channel_of(job), text)
                assert (await waiting).success
    # An exception of a task that nobody awaits is reported when it is collected.
    gc.collect()
    assert complaints == []


async def test_only_the_reader_opens_a_lost_connection_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that unsubscribes meanwhile would get redis-py's RuntimeError about two that read."""
    connections = LoopConnections(Settings(redis_url=redis_url))
    listener, openers, may_open = connections.listener, set(), asyncio.Event()
    try:
        async with listener.arrivals(["key"]):
            connection: Any = listener._channel.connection
            connect = connection.connect

            async def noted_connect() -> None:
                openers.add(asyncio.current_task())
                if asyncio.current_task() is listener._reader:
                    await may_open.wait()
                await connect()

            monkeypatch.setattr(connection, "connect", noted_connect)
            await connection.disconnect()
        may_open.set()

        async def is_open() -> bool:
            return bool(connection.is_connected)

        await until(is_open)
        assert openers == {listener._reader}
        assert await connections.results.pubsub_numsub("key") == [(b"key", 0)]
    finally:
        await connections.close()
