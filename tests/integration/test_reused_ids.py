"""Ids that are reused, cancelled, dead letters or expired: each caller gets the result of its own job."""

import json
import socket
import threading
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from celery import Celery

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, dead_letters, ledger
from pattern_storage.storage.pool import create_pool
from pattern_storage.tasks.client import AsyncPatternStorageClient, Job, JobTimeout, PatternStorageClient
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.status import marker
from pattern_storage.tasks.database import run_sync
from pattern_storage.vocabulary import JobState
from tests.fix_celery import StartWorker, StorageWorker
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern


@pytest.fixture
def client(knowing_client: PatternStorageClient) -> PatternStorageClient:
    """The same by a short name."""
    return knowing_client


def meta(redis_url: str, job: UUID) -> dict[str, Any]:
    with redis.Redis.from_url(redis_url) as store:
        found: dict[str, Any] = json.loads(store.get(result_key(job)) or "{}")
    return found


def error_type(job: Job) -> str | None:
    found: str | None = job.result(timeout=DEADLINE).metadata.get("error_type")
    return found


def add_dead_letter(client: PatternStorageClient, asked: ModelContractPatternStorage) -> None:
    last = failed(asked.correlation_id)
    assert run_sync(client.database.run(lambda connection: dead_letters.add(connection, asked, last, attempts=5)))


def letters(client: PatternStorageClient) -> int:
    return len(run_sync(client.database.run(dead_letters.fetch)))


def failed(job: UUID) -> ModelResult:
    metadata = {"correlation_id": str(job), "operation": "insert", "duration_ms": None, "error_type": "worker_lost"}
    return ModelResult(success=False, error="lost", metadata=metadata | {"dead_letter": True})


async def test_ids_that_are_used_twice(
    served_knowing_client: PatternStorageClient, served_knowing_async_client: AsyncPatternStorageClient,
    worker: StorageWorker,
) -> None:  # fmt: skip
    client = served_knowing_client
    taken = make_pattern()
    assert client.insert(taken).result(DEADLINE).success

    # A query, then a write that fails: Celery never writes over the query's SUCCESS.
    used = uuid4()
    assert client.query(correlation_id=used, limit=1).result(DEADLINE).success
    assert error_type(client.insert(taken, correlation_id=used)) == "unique_violation"

    # The same query again, and another one: both are executed.
    used = uuid4()
    name = taken["pattern_name"]
    assert client.query(correlation_id=used, pattern_name=name).result(DEADLINE).data["count"] == 1
    assert client.query(correlation_id=used, pattern_name="no such name").result(DEADLINE).data["count"] == 0

    # A write, then a query: the id is the write's.
    write = client.insert(make_pattern())
    assert write.result(DEADLINE).success
    assert error_type(client.query(correlation_id=write.correlation_id)) == "correlation_conflict"
    assert write.result(DEADLINE).data["pattern_name"]

    # A write that failed, then another: the second is told, and the first keeps its outcome.
    first = client.insert(taken)
    assert error_type(first) == "unique_violation"
    second = client.insert(make_pattern(), correlation_id=first.correlation_id)
    assert error_type(second) == "correlation_conflict"
    wait_until(
        lambda: "unique_violation" in str(meta(worker.redis_url, first.correlation_id)),
        "the first outcome is there again",
    )
    assert error_type(first) == "unique_violation"

    # Through the outbox.
    with psycopg.connect(worker.database_url) as connection:
        job = client.submit_in(connection, contract("insert", data=make_pattern(), correlation_id=write.correlation_id))
    assert error_type(job) == "correlation_conflict"
    async with await psycopg.AsyncConnection.connect(worker.database_url) as connection_:
        asked = contract("insert", data=make_pattern(), correlation_id=first.correlation_id)
        submitted = await served_knowing_async_client.submit_in(connection_, asked)
        assert (await submitted.result(DEADLINE)).metadata["error_type"] == "correlation_conflict"
        # The shared database is left without jobs that no relay publishes.
        await connection_.execute("DELETE FROM outbox")


def test_cancelled_queries_and_dead_letters(
    client: PatternStorageClient, start_worker: StartWorker, redis_url: str, database_url: str
) -> None:
    pending = client.query(limit=1)
    assert pending.cancel().metadata["error_type"] == "revoked"

    # Redis says FAILURE, because the job is a dead letter: that is not the end of it.
    asked = contract("insert", data=make_pattern())
    add_dead_letter(client, asked)
    told = {"exc_type": "StorageOperationFailed", "exc_message": [failed(asked.correlation_id).to_dict()]}
    with redis.Redis.from_url(redis_url) as store:
        store.set(result_key(asked.correlation_id), json.dumps({"status": "FAILURE", "result": told}))
    assert client.cancel(asked.correlation_id).metadata["error_type"] == "revoked"
    assert letters(client) == 0

    # Celery's own revoke is not durable; ours is, whatever Redis says.
    revoked = client.insert(make_pattern())
    with redis.Redis.from_url(redis_url) as store:
        store.set(result_key(revoked.correlation_id), marker(JobState.REVOKED))
    assert revoked.cancel().metadata["error_type"] == "revoked"

    with PatternStorageClient(database_url=database_url, redis_url="redis://127.0.0.1:1") as without_redis:
        cut_off = uuid4()
        assert without_redis.cancel(cut_off).metadata["error_type"] == "revoked"

    start_worker()
    client.submit_again([asked])
    client.submit(contract("insert", data=make_pattern(), correlation_id=cut_off))
    for job in (pending.correlation_id, asked.correlation_id, revoked.correlation_id, cut_off):
        wait_until(lambda job=job: meta(redis_url, job).get("status") == "REVOKED", "the worker says so")  # type: ignore[misc]
        assert error_type(client.get(job)) == "revoked"
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pattern_templates").fetchone() == (0,)


def test_dead_letters_of_jobs_that_ended_after_all(
    client: PatternStorageClient, start_worker: StartWorker, database_url: str, redis_url: str
) -> None:
    """One delivery was given up while another was committing."""

    async def race(asked: ModelContractPatternStorage) -> None:
        done = ModelResult(success=True, data={}, metadata=failed(asked.correlation_id).metadata | {"error_type": None})
        async with (
            create_pool(database_url) as pool,
            pool.connection() as one,
            pool.connection() as two,
            one.transaction(),
        ):
            await ledger.record(one, asked, done)
            assert await dead_letters.add(two, asked, failed(asked.correlation_id), attempts=5)

    def rows() -> int:
        with psycopg.connect(database_url) as connection:
            [(number,)] = connection.execute("SELECT count(*) FROM dead_letters").fetchall()
        return int(number)

    replayed, left = (contract("insert", data=make_pattern()) for _ in range(2))
    for asked in (replayed, left):
        run_sync(race(asked))
        assert client.get(asked.correlation_id).status() == "SUCCESS"
    assert (letters(client), rows()) == (0, 2)

    # A query has no row in the ledger, and its letter goes when it is answered.
    query = contract("query", query_params={"limit": 1})
    add_dead_letter(client, query)
    assert letters(client) == 1
    start_worker()
    jobs = client.submit_again([replayed, query])
    assert all(job.result(DEADLINE).success for job in jobs)
    wait_until(lambda: rows() == 1, "both letters are gone")
    with Celery("plain", broker=redis_url, set_as_current=False) as plain:
        plain.send_task("maintenance.purge_ledger", queue="storage")
    wait_until(lambda: rows() == 0, "housekeeping removes the other")


@pytest.mark.parametrize("stale", ["QUEUED", "STARTED", "RETRY"])
async def test_redis_has_missed_the_result(
    client: PatternStorageClient, database_url: str, redis_url: str, stale: str
) -> None:
    """As when results and queue are on different servers, and only one of them lost data."""
    asked = contract("insert", data=make_pattern())
    done = ModelResult(success=True, data={"pattern_id": "x"}, metadata={"operation": "insert"})
    await client.database.run(lambda connection: ledger.record(connection, asked, done))
    with redis.Redis.from_url(redis_url) as store:
        store.set(result_key(asked.correlation_id), marker(JobState(stale)))
    for timeout in (0, 0.2):
        assert client.get(asked.correlation_id).result(timeout).data == {"pattern_id": "x"}
        async with AsyncPatternStorageClient(database_url=database_url, redis_url=redis_url) as other:
            assert (await other.get(asked.correlation_id).result(timeout)).data == {"pattern_id": "x"}


def test_a_silent_postgresql_takes_no_more_time_than_the_caller_has(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/x"
        # The connect timeout is longer than this test has.
        with PatternStorageClient(database_url=url, redis_url=redis_url, connect_timeout=600) as client:
            told: list[BaseException] = []

            def ask() -> None:
                for timeout in (0, 0.1):
                    try:
                        client.get(uuid4()).result(timeout)
                    except JobTimeout as error:
                        told.append(error)

            thread = threading.Thread(target=ask, daemon=True)
            thread.start()
            thread.join(DEADLINE)
            assert len(told) == 2
