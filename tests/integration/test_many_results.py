"""Results of many jobs as they complete."""

import asyncio
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis

from pattern_storage.storage import ModelResult, ledger
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.tasks.client import (
    AsyncJob,
    AsyncPatternStorageClient,
    Job,
    JobTimeout,
    PatternStorageClient,
    ResultBackendUnavailable,
)
from pattern_storage.vocabulary import JobState
from tests.fix_celery import StorageWorker, locked_patterns
from tests.fix_process import DEADLINE
from tests.fix_storage import Connection, contract, make_pattern


def forget(worker: StorageWorker, job: Job | AsyncJob) -> None:
    with redis.Redis.from_url(worker.redis_url) as store:
        store.delete(f"celery-task-meta-{job.correlation_id}")


@pytest.fixture
def informed(worker: StorageWorker) -> Iterator[PatternStorageClient]:
    """A client of the shared worker that may ask PostgreSQL too."""
    with PatternStorageClient(redis_url=worker.redis_url, database_url=worker.database_url) as client:
        yield client


def test_each_once_as_they_complete(informed: PatternStorageClient, worker: StorageWorker) -> None:
    done, gone = informed.insert(make_pattern()), informed.insert(make_pattern())
    assert done.result(DEADLINE).success
    assert gone.result(DEADLINE).success
    # Of the second only the ledger knows.
    forget(worker, gone)
    patterns = [make_pattern() for _ in range(40)]
    with locked_patterns(worker.database_url):
        jobs = informed.submit_many(contract("insert", data=pattern) for pattern in [*patterns, patterns[0]])
        results = informed.results([done, *jobs, gone, done], DEADLINE)
        found = [next(results), next(results)]
    found += results
    assert {job.correlation_id for job, _ in found[:2]} == {done.correlation_id, gone.correlation_id}
    assert sorted(str(job.correlation_id) for job, _ in found) == sorted(
        str(job.correlation_id) for job in (done, gone, *jobs)
    )
    assert [result.metadata["error_type"] for _, result in found if not result.success] == ["unique_violation"]
    assert list(informed.results([], 0)) == []
    assert len(informed._subscriptions._idle) == 1


async def test_with_asyncio(worker: StorageWorker) -> None:
    async with AsyncPatternStorageClient(redis_url=worker.redis_url, database_url=worker.database_url) as client:
        done, gone = await asyncio.gather(client.insert(make_pattern()), client.insert(make_pattern()))
        await asyncio.gather(done.result(DEADLINE), gone.result(DEADLINE))
        forget(worker, gone)
        with locked_patterns(worker.database_url):
            jobs = await client.submit_many(contract("insert", data=make_pattern()) for _ in range(40))
            results = client.results([*jobs, done, gone, done], DEADLINE)
            found = [(await anext(results))[0], (await anext(results))[0]]
        found += [job async for job, result in results if result.success]
        assert {job.correlation_id for job in found[:2]} == {done.correlation_id, gone.correlation_id}
        assert len(found) == len(set(found)) == 42


async def test_those_without_a_result(redis_url: str, database_url: str) -> None:
    with PatternStorageClient(redis_url=redis_url) as client, redis.Redis.from_url(redis_url) as store:
        jobs = [client.insert(make_pattern()) for _ in range(3)]
        revoked = b'{"status": "REVOKED", "result": null}'
        store.set(f"celery-task-meta-{jobs[1].correlation_id}", revoked)
        found: list[tuple[Job, ModelResult]] = []
        with pytest.raises(JobTimeout) as caught:
            found.extend(client.results(jobs, 0.1))
        assert (caught.value.correlation_id, caught.value.others, caught.value.status) == (
            jobs[0].correlation_id, 1, "QUEUED",
        )  # fmt: skip
        assert "after 0.1 s, and 1 more have none; its status is QUEUED (the job goes on" in str(caught.value)
        assert [job for job, _ in client.results([jobs[1]], 0)] == [jobs[1]]
    async with AsyncPatternStorageClient(redis_url=redis_url, database_url=database_url) as other:
        with pytest.raises(JobTimeout, match="its status is UNKNOWN"):
            _ = [one async for one in other.results([other.get(uuid4())], 0.1)]


async def test_jobs_of_the_outbox_are_looked_up_together(
    redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis does not know them yet. A connection for each would take longer than most callers wait."""
    asked: list[int] = []
    states = ledger.states

    async def counted(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, tuple[JobState, ModelResult | None]]:
        asked.append(len(ids))
        return await states(connection, ids)

    monkeypatch.setattr(ledger, "states", counted)
    contracts = [contract("insert", data=make_pattern()) for _ in range(20)]
    with PatternStorageClient(redis_url=redis_url, database_url=database_url) as client:
        with psycopg.connect(database_url) as connection:
            jobs = client.submit_many_in(connection, contracts)
        with pytest.raises(JobTimeout, match="QUEUED"):
            list(client.results(jobs, 0))
    async with AsyncPatternStorageClient(redis_url=redis_url, database_url=database_url) as other:
        with pytest.raises(JobTimeout, match="QUEUED"):
            _ = [one async for one in other.results([other.get(job.correlation_id) for job in jobs], 0)]
    assert asked == [20, 20]


async def test_postgresql_that_is_down_at_the_deadline(redis_url: str) -> None:
    down = "postgresql://127.0.0.1:1/absent"
    with PatternStorageClient(redis_url=redis_url, database_url=down) as client:
        job = client.insert(make_pattern())
        with pytest.raises(JobTimeout, match="its status is QUEUED"):
            list(client.results([job], 0.1))
    async with AsyncPatternStorageClient(redis_url=redis_url, database_url=down) as other:
        with pytest.raises(JobTimeout, match="its status is QUEUED"):
            _ = [one async for one in other.results([other.get(job.correlation_id)], 0.1)]


async def test_a_publication_that_was_lost(redis_url: str) -> None:
    """The document is looked for all the same."""
    revoked = b'{"status": "REVOKED", "result": null}'
    with PatternStorageClient(redis_url=redis_url) as client, redis.Redis.from_url(redis_url) as store:
        jobs = [client.insert(make_pattern()) for _ in range(2)]
        store.set(f"celery-task-meta-{jobs[0].correlation_id}", revoked)
        results = client.results(jobs, DEADLINE)
        assert next(results)[0] is jobs[0]
        store.set(f"celery-task-meta-{jobs[1].correlation_id}", revoked)
        assert next(results)[0] is jobs[1]
        assert list(results) == []
    async with AsyncPatternStorageClient(redis_url=redis_url) as other:
        job = await other.insert(make_pattern())

        async def first() -> AsyncJob:
            [(found, _)] = [one async for one in other.results([job], DEADLINE)]
            return found

        waits = asyncio.create_task(first())
        await asyncio.sleep(0)
        with redis.Redis.from_url(redis_url) as store:
            store.set(f"celery-task-meta-{job.correlation_id}", revoked)
        assert await waits is job


async def test_a_server_that_is_down(absent_url: str) -> None:
    with PatternStorageClient(redis_url=absent_url) as client, pytest.raises(ResultBackendUnavailable):
        list(client.results([client.get(uuid4())], DEADLINE))
    async with AsyncPatternStorageClient(redis_url=absent_url) as other:
        with pytest.raises(ResultBackendUnavailable):
            _ = [one async for one in other.results([other.get(uuid4())], DEADLINE)]


def test_a_result_of_an_earlier_job_under_the_id(redis_url: str) -> None:
    """Its publication is still unread on the connection that the second wait is given."""
    with PatternStorageClient(redis_url=redis_url) as client, redis.Redis.from_url(redis_url) as store:
        job = client.insert(make_pattern())
        key = f"celery-task-meta-{job.correlation_id}"
        with client._subscriptions.subscribe(key):
            store.publish(key, b'{"status": "REVOKED", "result": null}')
        with pytest.raises(JobTimeout):
            job.result(0.2)
        assert len(client._subscriptions._idle) == 1


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("-inf"), "5", None, True, 10**400, "\x1b[2J"])
async def test_a_senseless_timeout_is_refused_in_a_sentence(redis_url: str, timeout: Any) -> None:
    said = r"^timeout should be a number of seconds, 0 or more, got .{1,60}$"
    with PatternStorageClient(redis_url=redis_url) as client:
        for wait in (client.get(uuid4()).result, partial(client.results, [client.get(uuid4())])):
            with pytest.raises(ContractInvalid, match=said) as caught:
                wait(timeout=timeout)
            assert repr(timeout)[:20] in str(caught.value) or timeout == "\x1b[2J"
            assert "\x1b" not in str(caught.value)
    async with AsyncPatternStorageClient(redis_url=redis_url) as other:
        with pytest.raises(ContractInvalid, match=said):
            await other.get(uuid4()).result(timeout=timeout)
        with pytest.raises(ContractInvalid, match=said):
            other.results([other.get(uuid4())], timeout=timeout)


async def test_numbers_of_any_kind_and_no_limit_are_timeouts(served_client: PatternStorageClient) -> None:
    job = served_client.insert(make_pattern())
    assert job.result(timeout=float("inf")).success
    assert job.result(timeout=Fraction(1, 2)).success  # type: ignore[arg-type]
    assert [result.success for _, result in served_client.results([job], timeout=float("inf"))] == [True]


async def test_a_closed_client_opens_its_connections_again(redis_url: str) -> None:
    """As redis-py's does: a module's client outlives the event loops, and the `with` blocks, that close it."""
    with PatternStorageClient(redis_url=redis_url) as client:
        job = client.insert(make_pattern())
    assert job.status() == "QUEUED"
    assert client.insert(make_pattern()).status() == "QUEUED"
    client.close()
    client.close()
    async with AsyncPatternStorageClient(redis_url=redis_url) as other:
        waiting = await other.insert(make_pattern())
    assert await waiting.status() == "QUEUED"
    await other.close()
    await other.close()
