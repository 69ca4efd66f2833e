"""The result backend refuses: every accepted job is done all the same, and nobody is told anything wrong."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import redis
from redis.exceptions import OutOfMemoryError

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.tasks.client import AsyncPatternStorageClient, PatternStorageClient
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.result_resolver import ResultResolver
from tests.fix_celery import BLOCKED, StartWorker, locked_patterns, worker_connections
from tests.fix_faults import Launch
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern

JOBS = 30


def fill(store: "redis.Redis") -> None:
    store.config_set("maxmemory-policy", "noeviction")
    store.config_set("maxmemory", "1mb")
    # Less than an empty server needs.
    with pytest.raises(OutOfMemoryError):
        store.set("filler", "x")


def make_replica(store: "redis.Redis") -> None:
    store.config_set("replica-read-only", "yes")
    store.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]


def deny_writes(store: "redis.Redis") -> None:
    store.config_set("min-replicas-to-write", 1)


REFUSALS = {"full": fill, "replica": make_replica, "no replicas": deny_writes}


@pytest.fixture
def results(lone_valkey: EmbeddedValkey) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(lone_valkey.url) as store:
        yield store


@pytest.mark.parametrize("refusal", REFUSALS)
def test_accepted_jobs_are_done(
    refusal: str,
    results: "redis.Redis",
    lone_valkey: EmbeddedValkey,
    start_worker: StartWorker,
    database_url: str,
    redis_url: str,
) -> None:
    with PatternStorageClient(
        database_url=database_url, broker_url=redis_url, result_backend_url=lone_valkey.url
    ) as client:
        REFUSALS[refusal](results)
        jobs = client.submit_many([contract("insert", data=make_pattern()) for _ in range(JOBS)])
        start_worker(env={"RESULT_BACKEND_URL": lone_valkey.url})
        with psycopg.connect(database_url, autocommit=True) as connection:
            count = "SELECT count(*) FROM job_ledger"
            wait_until(lambda: connection.execute(count).fetchone() == (JOBS,), "all have committed")
            assert connection.execute("SELECT count(*) FROM pattern_templates").fetchone() == (JOBS,)
        # Redis knows none of them: PostgreSQL is asked at once.
        assert all(job.result(DEADLINE).success for job in jobs)


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_caller_that_waits_is_told_by_postgresql(
    refusal: str,
    results: "redis.Redis",
    lone_valkey: EmbeddedValkey,
    start_worker: StartWorker,
    database_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Redis says QUEUED for as long as it refuses; without a look at the ledger both would wait to the end."""
    monkeypatch.setattr(ResultResolver, "needs_final_lookup", lambda *_: False)
    urls: dict[str, Any] = {
        "database_url": database_url,
        "broker_url": redis_url,
        "result_backend_url": lone_valkey.url,
    }
    with PatternStorageClient(**urls) as client:
        job, other = client.insert(make_pattern()), client.insert(make_pattern())
        many = client.submit_many([contract("insert", data=make_pattern()) for _ in range(3)])
        REFUSALS[refusal](results)
        start_worker(env={"RESULT_BACKEND_URL": lone_valkey.url})
        assert job.result(DEADLINE).success
        assert job.status() == "QUEUED"
        # At polls: at the end of the time the ledger is asked anyway.
        answers = asyncio.to_thread(list, client.results(many, timeout=2 * DEADLINE))
        assert all(result.success for _, result in await asyncio.wait_for(answers, DEADLINE))
    async with AsyncPatternStorageClient(**urls) as asynchronous:
        asked = [asynchronous.get(one.correlation_id) for one in many]
        async with asyncio.timeout(DEADLINE):
            assert [result.success async for _, result in asynchronous.results(asked, timeout=2 * DEADLINE)] == [
                True
            ] * 3
        assert (await asynchronous.get(other.correlation_id).result(DEADLINE)).success


def test_keys_of_another_type(
    results: "redis.Redis", lone_valkey: EmbeddedValkey, start_worker: StartWorker, database_url: str, redis_url: str
) -> None:
    asked = [contract("insert", data=make_pattern()) for _ in range(JOBS)]
    for one in asked:
        results.rpush(result_key(one.correlation_id), "not a result")
    with PatternStorageClient(broker_url=redis_url, result_backend_url=lone_valkey.url) as client:
        jobs = client.submit_many(asked)
        start_worker(env={"RESULT_BACKEND_URL": lone_valkey.url})
        assert [job.result(DEADLINE).success for job in jobs] == [True] * JOBS


def test_one_full_redis(launch: Launch, results: "redis.Redis", lone_valkey: EmbeddedValkey, database_url: str) -> None:
    """Queue and results on one server, full under the recommended policy: what was begun is done, the rest waits."""
    launch(database_url, lone_valkey.url)
    with PatternStorageClient(database_url=database_url, redis_url=lone_valkey.url) as client:
        with locked_patterns(database_url):
            jobs = client.submit_many([contract("insert", data=make_pattern()) for _ in range(JOBS)])
            wait_until(lambda: len(worker_connections(database_url, BLOCKED)) == 2, "two jobs are being done")
            fill(results)

        def committed() -> int:
            with psycopg.connect(database_url) as connection:
                [(number,)] = connection.execute("SELECT count(*) FROM job_ledger").fetchall()
            return int(number)

        wait_until(lambda: committed() >= 2, "both have ended")
        results.config_set("maxmemory", 0)
        assert [job.result(DEADLINE).success for job in jobs] == [True] * JOBS
        assert committed() == JOBS


def test_a_query_is_answered_when_there_is_room_again(
    results: "redis.Redis", lone_valkey: EmbeddedValkey, start_worker: StartWorker, database_url: str, redis_url: str
) -> None:
    """Its rows stand nowhere else, so its message goes back to the queue."""
    with PatternStorageClient(broker_url=redis_url, result_backend_url=lone_valkey.url) as client:
        results.config_set("maxmemory", 1)
        job = client.query(limit=1)
        worker = start_worker(env={"RESULT_BACKEND_URL": lone_valkey.url})
        wait_until(lambda: "cannot store results" in worker.logs(), "the worker says so")
        wait_until(lambda: worker.logs().count(f"[{job.correlation_id}] received") > 1, "it comes again")
        results.config_set("maxmemory", 0)
        assert job.result(DEADLINE).success
