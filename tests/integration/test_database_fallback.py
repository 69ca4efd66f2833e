"""Results from the ledger once expired in Redis, cancelling, and dead letters on the command line."""

import json
from uuid import uuid4

import psycopg
import pytest
import redis
from celery import Celery

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, dead_letters
from pattern_storage.tasks.cli import main
from pattern_storage.tasks.client import AsyncPatternStorageClient, JobTimeout, PatternStorageClient
from pattern_storage.tasks.database import Database, run_sync
from tests.fix_celery import StartWorker, StorageWorker
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern


async def test_results_outlive_redis(
    served_knowing_client: PatternStorageClient,
    served_knowing_async_client: AsyncPatternStorageClient,
    worker: StorageWorker,
) -> None:
    done, failed = served_knowing_client.insert(make_pattern()), served_knowing_client.delete(uuid4())
    before = done.result(DEADLINE), failed.result(DEADLINE)
    with redis.Redis.from_url(worker.redis_url) as connection:
        assert connection.delete(*(f"celery-task-meta-{job.correlation_id}" for job in (done, failed))) == 2
    assert (done.status(), failed.status()) == ("SUCCESS", "FAILURE")
    assert (done.result().data, failed.result().error) == (before[0].data, before[1].error)
    again = served_knowing_async_client.get(done.correlation_id)
    assert (await again.status(), (await again.result()).data) == ("SUCCESS", before[0].data)
    assert (await served_knowing_async_client.get(failed.correlation_id).result()).error == before[1].error
    with PatternStorageClient(redis_url=worker.redis_url) as forgetful:
        assert forgetful.get(done.correlation_id).status() == "UNKNOWN"


async def test_unknown_to_both(knowing_client: PatternStorageClient, database_url: str, redis_url: str) -> None:
    job = knowing_client.get(uuid4())
    assert job.status() == "UNKNOWN"
    with pytest.raises(JobTimeout, match="UNKNOWN"):
        job.result(timeout=0)
    async with AsyncPatternStorageClient(database_url=database_url, redis_url=redis_url) as client:
        with pytest.raises(JobTimeout, match="UNKNOWN"):
            await client.get(uuid4()).result(timeout=0)


def test_a_database_that_does_not_answer(redis_url: str) -> None:
    with PatternStorageClient(database_url="postgresql://u:p@127.0.0.1:1/x", redis_url=redis_url) as client:
        assert client.get(uuid4()).status() == "UNKNOWN"


def test_cancel_before_a_worker_comes(
    knowing_client: PatternStorageClient, start_worker: StartWorker, database_url: str, redis_url: str
) -> None:
    job, orphan, other = (knowing_client.insert(make_pattern()) for _ in range(3))
    assert job.cancel().metadata["error_type"] == "revoked"
    assert job.status() == "REVOKED"
    # A client that dies after it has cancelled leaves the rest to the worker.
    run_sync(knowing_client.database.cancel(orphan.correlation_id))
    assert orphan.status() == "QUEUED"
    worker = start_worker()
    assert other.result(DEADLINE).success
    wait_until(lambda: f"{job.correlation_id}] received" in worker.logs(), "the worker meets the cancelled job")
    for cancelled in (job, orphan):
        assert cancelled.result(DEADLINE).metadata["error_type"] == "revoked"
        assert cancelled.status() == "REVOKED"
    with redis.Redis.from_url(redis_url, decode_responses=True) as connection:
        assert json.loads(str(connection.get(f"celery-task-meta-{orphan.correlation_id}")))["status"] == "REVOKED"
    with psycopg.connect(database_url) as database:
        assert database.execute("SELECT count(*) FROM pattern_templates").fetchone() == (1,)


async def test_cancel_after_it_was_done(
    served_knowing_client: PatternStorageClient, served_knowing_async_client: AsyncPatternStorageClient
) -> None:
    job = served_knowing_client.insert(make_pattern())
    result = job.result(DEADLINE)
    assert job.cancel().data == result.data
    assert job.status() == "SUCCESS"
    assert (await served_knowing_async_client.get(job.correlation_id).cancel()).data == result.data


def add_dead_letter(database: Database, error_type: str = "connection_lost") -> ModelContractPatternStorage:
    asked = contract("insert", data=make_pattern())
    last = ModelResult(success=False, error="the line was cut", metadata={"error_type": error_type})
    run_sync(database.run(lambda connection: dead_letters.add(connection, asked, last, attempts=5)))
    return asked


def test_dead_letters(
    knowing_client: PatternStorageClient,
    start_worker: StartWorker,
    database_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)

    def command(*arguments: str, code: int = 0) -> str:
        """Run the command in this process: a dozen of their own would take half a minute to start."""
        monkeypatch.setattr("sys.argv", ["pattern-storage", "dead-letters", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.out + said.err
        return said.out if code == 0 else said.err

    dead = add_dead_letter(knowing_client.database)
    other = add_dead_letter(knowing_client.database, "pool_timeout")
    job = knowing_client.get(dead.correlation_id)
    assert (job.status(), job.result().metadata["attempts"]) == ("FAILURE", 5)
    listed = json.loads(command("list", "--json"))
    assert {letter["correlation_id"] for letter in listed} == {str(dead.correlation_id), str(other.correlation_id)}
    assert str(dead.correlation_id) in command("list", "--error-type", "connection_lost")
    shown = json.loads(command("show", str(dead.correlation_id), "--json"))
    assert shown["contract"]["data"] == dead.data
    assert "the line was cut" in command("show", str(dead.correlation_id))
    assert command("discard", "--all", "--dry-run").count("\n") == 2
    assert command("discard", str(other.correlation_id)) == f"{other.correlation_id}\n"
    assert "no dead letter has the id" in command("discard", str(other.correlation_id), code=2)
    assert "say which" in command("replay", code=2)
    assert command("replay", "--error-type", "connection_lost", "--dry-run") == f"{dead.correlation_id}\n"
    assert job.status() == "FAILURE"
    command("replay", "--all")
    assert job.status() == "QUEUED"
    start_worker()
    assert job.result(DEADLINE).success
    assert json.loads(command("list", "--json")) == []


def test_beat_s_housekeeping(
    knowing_client: PatternStorageClient, start_worker: StartWorker, database_url: str, redis_url: str
) -> None:
    start_worker()
    assert all(knowing_client.insert(make_pattern()).result(DEADLINE).success for _ in range(3))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE job_ledger SET finished_at = now() - interval '31 days'")
        with Celery("plain", broker=redis_url, set_as_current=False) as plain:
            plain.send_task("maintenance.purge_ledger", queue="storage")

            def purged() -> bool:
                return connection.execute("SELECT count(*) FROM job_ledger").fetchone() == (0,)

            wait_until(purged, "the ledger is purged")
            connection.execute(
                "INSERT INTO import_runs (run_id, name, plan, state, queued_at) SELECT gen_random_uuid(), 'x', '{}',"
                " 'failed', now() - make_interval(days => days) FROM unnest(ARRAY[92, 91, 1]) AS days"
            )
            plain.send_task("maintenance.purge_imports", queue="storage")

            def forgotten() -> bool:
                return connection.execute("SELECT count(*) FROM import_runs").fetchone() == (1,)

            wait_until(forgotten, "old runs are forgotten")
            # Without any relay the outbox is swept.
            with connection.transaction():
                job = knowing_client.submit_in(connection, contract("insert", data=make_pattern()))
            plain.send_task("maintenance.sweep_outbox", queue="storage")
        assert job.result(DEADLINE).success
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


async def test_an_id_that_was_used_before(
    served_knowing_client: PatternStorageClient, served_knowing_async_client: AsyncPatternStorageClient
) -> None:
    """Whoever reuses an id for another request is told so, and not given the first one's result."""
    first = served_knowing_client.insert(make_pattern())
    assert first.result(DEADLINE).success
    other = make_pattern()
    second = served_knowing_client.insert(other, correlation_id=first.correlation_id)
    assert second.result(DEADLINE).metadata["error_type"] == "correlation_conflict"
    assert first.result(DEADLINE).success
    assert served_knowing_client.query(pattern_name=other["pattern_name"]).result(DEADLINE).data["count"] == 0
    third = await served_knowing_async_client.insert(other, correlation_id=first.correlation_id)
    assert (await third.result(DEADLINE)).metadata["error_type"] == "correlation_conflict"


def test_a_finished_query_cannot_be_cancelled(served_knowing_client: PatternStorageClient) -> None:
    job = served_knowing_client.query()
    result = job.result(DEADLINE)
    assert job.cancel().data == result.data
    assert job.status() == "SUCCESS"
