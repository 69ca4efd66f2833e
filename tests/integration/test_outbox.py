"""The outbox: jobs that exist if and only if the application's transaction commits."""

from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.errors import ContractInvalid, CorrelationConflict, UnsupportedOperation
from pattern_storage.tasks.client import AsyncPatternStorageClient, PatternStorageClient
from tests.fix_celery import StartWorker
from tests.fix_outbox import insertion, queued
from tests.fix_process import DEADLINE, ProcessGroup, wait_until
from tests.fix_storage import Connection, contract, fetch, make_pattern


async def test_rolled_back_is_never_published(
    client: PatternStorageClient,
    application: psycopg.Connection,
    relay: ProcessGroup,
    redis_url: str,
    database_url: str,
) -> None:
    lost, kept = insertion(), insertion()
    client.submit_in(application, lost)
    application.rollback()
    job = client.submit_in(application, kept)
    application.commit()
    wait_until(lambda: queued(redis_url), "the other one is published")
    assert queued(redis_url) == [str(kept.correlation_id)] == [str(job.correlation_id)]
    assert job.status() == "QUEUED"
    unknown = client.get(lost.correlation_id).status()
    assert (unknown, type(unknown)) == ("UNKNOWN", str)
    assert fetch(database_url, "SELECT correlation_id FROM outbox") == [(kept.correlation_id,)]


async def test_every_write_from_commit_to_effect(
    client: PatternStorageClient,
    application: psycopg.Connection,
    relay: ProcessGroup,
    start_worker: StartWorker,
    database_url: str,
) -> None:
    start_worker()
    first = insertion()
    with application.transaction():
        application.execute("CREATE TABLE mine (x int)")
        job = client.submit_in(application, first)
        batch = client.submit_in(application, contract("batch_insert", patterns=[make_pattern() for _ in range(3)]))
    inserted = job.result(DEADLINE)
    assert inserted.success, inserted.error
    assert batch.result(DEADLINE).data["count"] == 3
    update = contract("update", pattern_id=inserted.data["pattern_id"], data={"usage_count": 3})
    with application.transaction():
        job = client.submit_in(application, update)
    assert job.result(DEADLINE).success
    with application.transaction():
        job = client.submit_in(application, contract("delete", pattern_id=inserted.data["pattern_id"]))
    assert job.result(DEADLINE).success
    with application.transaction():
        failed = client.submit_in(application, contract("delete", pattern_id=inserted.data["pattern_id"]))
    assert failed.result(DEADLINE).metadata["error_type"] == "validation_error"
    assert fetch(database_url, "SELECT * FROM outbox") == []
    assert fetch(database_url, "SELECT count(*) FROM job_ledger") == [(5,)]


async def test_async_client(
    async_client: AsyncPatternStorageClient, connection: Connection, relay: ProcessGroup, redis_url: str
) -> None:
    """On a connection whose rows are dicts."""
    asked = insertion()
    async with connection.transaction():
        job = await async_client.submit_in(connection, asked)
        assert job.correlation_id == asked.correlation_id
        await async_client.submit_in(connection, asked)
        with pytest.raises(CorrelationConflict):
            await async_client.submit_in(connection, insertion(correlation_id=asked.correlation_id))
    wait_until(lambda: queued(redis_url) == [str(asked.correlation_id)], "it is published")


def test_jobs_of_one_transaction_keep_their_order(
    client: PatternStorageClient, application: psycopg.Connection, relay: ProcessGroup, redis_url: str
) -> None:
    with application.transaction():
        ids = [str(client.submit_in(application, insertion()).correlation_id) for _ in range(50)]
    wait_until(lambda: len(queued(redis_url)) == 50, "all are published")
    assert queued(redis_url) == ids


@pytest.mark.parametrize("row_factory", [None, dict_row])
def test_same_id_twice(client: PatternStorageClient, database_url: str, row_factory: Any) -> None:
    asked = insertion()
    factory = {"row_factory": row_factory} if row_factory else {}
    with psycopg.connect(database_url, **factory) as application:
        client.submit_in(application, asked)
        client.submit_in(application, asked)
        client.submit_in(application, asked.model_copy(update={"name": "other"}))
        with pytest.raises(CorrelationConflict, match=str(asked.correlation_id)):
            client.submit_in(application, insertion(correlation_id=asked.correlation_id))
    # The transaction went on, and committed.
    assert fetch(database_url, "SELECT correlation_id FROM outbox") == [(asked.correlation_id,)]


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (contract("query"), ContractInvalid, "A query changes nothing that the outbox could guarantee"),
        (contract("insert", data=make_pattern(confidence_score=5)), ContractInvalid, "confidence_score should be"),
        (contract("merge"), UnsupportedOperation, "Unsupported operation: merge"),
    ],
)
def test_refused_before_anything_is_written(
    client: PatternStorageClient,
    application: psycopg.Connection,
    asked: ModelContractPatternStorage,
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        client.submit_in(application, asked)
    assert application.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_commit_waits_for_no_other(database_url: str) -> None:
    """NOTIFY in a trigger made all commits of the cluster wait for one lock."""
    assert fetch(database_url, "SELECT tgname FROM pg_trigger WHERE tgrelid = 'outbox'::regclass") == []
