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
from pattern_storage.tasks.client.loop_connections import LoopConnections
from pattern_storage.tasks.client.result_wire import UNSUBSCRIBE_WITHIN
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


async def connections(operator: "redis.asyncio.Redis") -> set[str]:
    # The shared worker is a client of the same server.
    database = (await operator.client_info())["db"]
    return {each["id"] for each in await operator.client_list() if int(each["db"]) == database}


async def test_three_hundred_results_over_few_connections(redis_url: str, operator: "redis.asyncio.Redis") -> None:
    contracts = [contract("insert", data=make_pattern()) for _ in range(300)]
    before = await connections(operator)
    async with AsyncPatternStorageClient(redis_url=redis_url, connect_timeout=DEADLINE) as client:
        jobs = await client.submit_many(contracts)
        waits = [asyncio.create_task(job.result(DEADLINE)) for job in jobs]

        async def all_listen() -> bool:
            # One that has failed says why.
            assert [wait.result() for wait in waits if wait.done()] == []
            counts = await operator.pubsub_numsub(*map(channel_of, jobs))
            return all(number == 1 for _, number in counts)

        await until(all_listen)
        assert len(await connections(operator) - before) == 3, "one publishes, one reads, one is subscribed"
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


async def test_subscriptions_share_their_connection(redis_url: str, operator: "redis.asyncio.Redis") -> None:
    """The first ones, and again once it was lost: those that wait then read what they have missed."""
    client = LoopConnections(Settings(redis_url=redis_url))
    before, everybody, is_lost = await connections(operator), asyncio.Barrier(6), asyncio.Event()

    async def wait(key: str) -> None:
        async with client.listener.arrivals(lambda: [key]) as arrivals:
            assert await arrivals.receive(DEADLINE) == [(key, None)]
            await everybody.wait()
            await is_lost.wait()
            assert await arrivals.receive(DEADLINE) == [(key, b"missed")]
            await everybody.wait()
            assert await arrivals.receive(DEADLINE) == [(key, b"published")]

    keys = [f"key {number}" for number in range(5)]
    try:
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as waits:
            for key in keys:
                waits.create_task(wait(key))
            await everybody.wait()
            for each in await connections(operator) - before:
                await operator.client_kill_filter(_id=each)
            await operator.mset(dict.fromkeys(keys, "missed"))
            is_lost.set()
            await everybody.wait()
            assert len(await connections(operator) - before) == 2
            for key in keys:
                await operator.publish(key, "published")
    finally:
        await client.close()


async def test_waits_for_a_server_that_is_down_fail_together(lone_valkey: EmbeddedValkey) -> None:
    """One attempt to connect answers all that have waited for it."""
    client = LoopConnections(Settings(redis_url=lone_valkey.url))
    lone_valkey.kill()
    attempts, all_wait = 0, asyncio.Event()
    connect = client.listener._reads._connect

    async def slow_connect(timeout: float) -> Any:
        nonlocal attempts
        attempts += 1
        await all_wait.wait()
        return await connect(timeout)

    client.listener._reads._connect = slow_connect  # type: ignore[method-assign]

    async def ask() -> BaseException:
        with pytest.raises(redis.RedisError) as failure:
            await client.listener.get("key")
        return failure.value

    try:
        async with asyncio.timeout(DEADLINE):
            asked = [asyncio.create_task(ask()) for _ in range(4)]
            # Each step of the event loop takes all of them on.
            for _ in range(5):
                await asyncio.sleep(0)
            all_wait.set()
            failures = await asyncio.gather(*asked)
    finally:
        await client.close()
    assert (attempts, len(failures)) == (1, 4)
    assert len({str(failure) for failure in failures}) == 1


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


async def test_closing_right_after_a_result(redis_url: str, operator: "redis.asyncio.Redis") -> None:
    """The end of the subscription is still to be sent then; a result that was lost is asked for no more."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    before = await connections(operator)
    async with AsyncPatternStorageClient(redis_url=redis_url) as client:
        job = await client.insert(make_pattern())
        await operator.set(channel_of(job), '{"status": "SUCCESS", "result": {"success": true}}')
        assert (await job.result(DEADLINE)).success
        waiting = asyncio.create_task((await client.insert(make_pattern())).result(DEADLINE))
        await asyncio.sleep(2 * UNSUBSCRIBE_WITHIN)
        last = await client.insert(make_pattern())
        await operator.set(channel_of(last), '{"status": "SUCCESS", "result": {"success": true}}')
        assert (await last.result(DEADLINE)).success
    with pytest.raises(ResultBackendUnavailable, match=r"the client (closed the connection|was closed)"):
        await waiting
    await asyncio.sleep(2 * UNSUBSCRIBE_WITHIN)
    gc.collect()
    assert complaints == []
    assert await connections(operator) == before


# redis-py warns of what nobody has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_client_that_nobody_closes(redis_url: str, operator: "redis.asyncio.Redis") -> None:
    before = await connections(operator)
    client: Any = AsyncPatternStorageClient(redis_url=redis_url)
    with pytest.raises(JobTimeout):
        await (await client.insert(make_pattern())).result(timeout=0.1)
    assert len(await connections(operator) - before) == 3
    del client

    async def are_closed() -> bool:
        gc.collect()
        return await connections(operator) == before

    await until(are_closed)


async def test_results_larger_than_a_subscribed_connection_may_have(lone_valkey: EmbeddedValkey) -> None:
    """The server closes a subscribed connection with 32 MB to send."""
    async with (
        AsyncPatternStorageClient(redis_url=lone_valkey.url) as client,
        redis.asyncio.Redis.from_url(lone_valkey.url) as operator,
    ):
        jobs = await client.submit_many(contract("insert", data=make_pattern()) for _ in range(6))
        waiting = asyncio.create_task((await client.insert(make_pattern())).result(timeout=3.0))
        large = json.dumps({"status": "SUCCESS", "result": {"success": True, "data": {"text": "x" * 8_000_000}}})
        for job in jobs:
            await operator.set(channel_of(job), large)
        results = await asyncio.gather(*(job.result(DEADLINE) for job in jobs))
        assert all(result.success for result in results)
        with pytest.raises(JobTimeout):
            await waiting
