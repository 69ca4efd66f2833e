"""Worker processes: each kind of pool, their connections, their time limits, and what kills them."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from celery import Celery
from pytest_celery import CeleryTestSetup

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import BLOCKED, IN_TRANSACTION, StartWorker, StorageWorker, locked_patterns, worker_connections
from tests.fix_events import listening
from tests.fix_process import DEADLINE, StartProcess, wait_until
from tests.fix_storage import make_pattern


def names(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        return [name for (name,) in connection.execute("SELECT pattern_name FROM pattern_templates ORDER BY 1")]


def lost_connections(database_url: str) -> int:
    """How many clients of this database went away without saying so."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT sessions_abandoned FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        assert row
        return int(row[0])


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_all_operations_and_an_orderly_end(
    start_worker: StartWorker, client: PatternStorageClient, pool: str, database_url: str
) -> None:
    worker = start_worker(pool=pool, queues=["storage", "batch"])
    # Opened before the first job, two connections a process, except where threads share what the first job opens.
    ready = {"prefork": 4, "solo": 2, "threads": 0}[pool]
    wait_until(lambda: len(worker_connections(database_url)) == ready, f"{ready} connections")
    pattern, first, second = make_pattern(), make_pattern(language="sql"), make_pattern(language="sql")

    inserted = client.insert(pattern).result(DEADLINE)
    assert inserted.data["pattern_name"] == pattern["pattern_name"]
    pattern_id = inserted.data["pattern_id"]
    updated = client.update(pattern_id, {"category": "cache"}).result(DEADLINE)
    assert updated.data["fields_updated"] == ["category"]
    batch = client.batch_insert([first, second]).result(DEADLINE)
    assert batch.data["pattern_names"] == [first["pattern_name"], second["pattern_name"]]
    found = client.query(category="cache").result(DEADLINE)
    assert [record["id"] for record in found.data["patterns"]] == [pattern_id]
    assert found.data["patterns"][0]["template_code"] == pattern["template_code"]
    assert client.delete(pattern_id).result(DEADLINE).data["deleted"] is True
    duplicate = client.insert(first).result(DEADLINE)
    assert duplicate.metadata["error_type"] == "unique_violation"
    assert names(database_url) == sorted([first["pattern_name"], second["pattern_name"]])

    assert worker_connections(database_url) != []
    assert worker.stop() == 0
    assert worker_connections(database_url) == []
    assert lost_connections(database_url) == 0
    assert "Traceback" not in worker.logs()


def test_threads_share_one_pool(start_worker: StartWorker, client: PatternStorageClient, database_url: str) -> None:
    limits = {"PATTERN_STORAGE_POOL_MIN_SIZE": "1", "PATTERN_STORAGE_POOL_MAX_SIZE": "3"}
    start_worker(pool="threads", concurrency=8, env=limits)
    with locked_patterns(database_url):
        jobs = [client.insert(make_pattern()) for _ in range(8)]
        wait_until(lambda: {job.status() for job in jobs} == {"STARTED"}, "all eight have begun")
        wait_until(lambda: len(worker_connections(database_url, BLOCKED)) == 3, "three have a connection")
        assert len(worker_connections(database_url)) == 3
    assert all(job.result(DEADLINE).success for job in jobs)


@pytest.mark.parametrize("groups", ["1", "0"], ids=["groups", "alone"])
def test_time_limits(groups: str, start_worker: StartWorker, client: PatternStorageClient, database_url: str) -> None:
    limits = {"PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "1", "PATTERN_STORAGE_TASK_TIME_LIMIT": "2"}
    worker = start_worker(concurrency=1, env=limits | {"PATTERN_STORAGE_GROUP_EXECUTION": groups})
    with locked_patterns(database_url):
        soft = client.insert(make_pattern())
        result = soft.result(DEADLINE)
        assert result.metadata["error_type"] == "time_limit_exceeded"
        assert str(result.error).startswith("the worker could not finish the job: SoftTimeLimitExceeded")
        assert soft.status() == "FAILURE"
        # Still locked: whoever had not let go would be waiting here.
        assert worker_connections(database_url, IN_TRANSACTION) == []

        hard = client.insert(make_pattern())
        # A process that stands still never hears of the soft limit. The first one may have the job as a group.
        wait_until(lambda: hard.status() == "FAILURE" or stop_blocked(worker, database_url), "it has ended")
        result = hard.result(DEADLINE)
        assert result.metadata["error_type"] == "time_limit_exceeded"
        assert str(result.error).startswith("the worker could not finish the job: TimeLimitExceeded")
    pattern = make_pattern()
    assert client.insert(pattern).result(DEADLINE).success
    assert names(database_url) == [pattern["pattern_name"]]


def stop_blocked(worker: StorageWorker, database_url: str) -> bool:
    """Have the processes of a worker stand still if one of them waits for the table. Returns False: it ends nothing."""
    if worker_connections(database_url, BLOCKED):
        for child in worker.children():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGSTOP)
    return False


def test_job_that_is_revoked_and_job_that_loses_its_process(
    start_worker: StartWorker, client: PatternStorageClient, redis_url: str, database_url: str
) -> None:
    worker = start_worker(concurrency=1)
    with locked_patterns(database_url), Celery("operator", broker=redis_url, set_as_current=False) as operator:
        job = client.insert(make_pattern())
        wait_until(lambda: worker_connections(database_url, BLOCKED), "the job waits for the table")
        operator.control.revoke(str(job.correlation_id), terminate=True, destination=[worker.hostname()])
        result = job.result(DEADLINE)
        # COMMIT has been sent along: PostgreSQL would go on to it with the lock, before it sees that nobody is left.
        wait_until(lambda: not worker_connections(database_url, BLOCKED), "its connection has ended")
    assert job.status() == "REVOKED"
    assert result.error == "the job was revoked before it was done"
    assert result.metadata["error_type"] == "revoked"
    assert names(database_url) == []

    pattern = make_pattern(template_code="def top_secret(): pass")
    with listening(redis_url) as event, locked_patterns(database_url):
        job = client.insert(pattern)
        (connection,) = wait_until(lambda: worker_connections(database_url, BLOCKED), "the job waits for the table")
        wait_until(lambda: job.status() == "STARTED", "it says that it has begun")
        os.kill(worker.children()[0], signal.SIGKILL)
        wait_until(lambda: worker_connections(database_url, BLOCKED) not in ([], [connection]), "it runs again")
        # Celery itself sent it again; nobody sees more of it than before.
        for kind in ("task-sent", "task-retried", "task-received"):
            assert "top_secret" not in str(seen := event(kind, job.correlation_id))
        assert seen["args"] == f"insert {pattern['pattern_name']} (function/python)"
    worker.assert_log_exists(f"[{job.correlation_id}] Task storage.insert[{job.correlation_id}] retry: Retry in")
    assert job.result(DEADLINE).success
    assert names(database_url) == [pattern["pattern_name"]]


def test_job_of_a_thread_that_is_to_be_terminated(
    start_worker: StartWorker, client: PatternStorageClient, redis_url: str, database_url: str
) -> None:
    """Nobody can end a thread: the job goes on, and the log says so."""
    worker = start_worker(concurrency=1, pool="threads")
    with locked_patterns(database_url), Celery("operator", broker=redis_url, set_as_current=False) as operator:
        job = client.insert(make_pattern())
        wait_until(lambda: worker_connections(database_url, BLOCKED), "the job waits for the table")
        wait_until(lambda: job.status() == "STARTED", "it says that it has begun")
        operator.control.revoke(str(job.correlation_id), terminate=True, destination=[worker.hostname()])
        worker.assert_log_exists(f"{job.correlation_id} goes on to its end")
    assert job.result(DEADLINE).success
    assert "Traceback" not in worker.logs()


def test_pytest_celerys_setup(celery_setup: CeleryTestSetup, database_url: str) -> None:
    """A worker that is killed finds, restarted, what was sent meanwhile."""
    worker = celery_setup.worker
    assert isinstance(worker, StorageWorker)
    assert celery_setup.ready(control=True, docker=True)
    with PatternStorageClient(redis_url=celery_setup.broker.container.url) as client:
        assert client.insert(make_pattern()).result(DEADLINE).success
        worker.kill()
        assert worker.container.status == "exited"
        job = client.insert(make_pattern())
        assert job.status() == "QUEUED"
        worker.restart()
        assert job.result(DEADLINE).success
    worker.assert_log_exists(f"storage.insert[{job.correlation_id}] succeeded")
    worker.assert_log_does_not_exist("Traceback", timeout=0)
    assert {info["pid"] for info in worker.get_running_processes_info(["pid"])} == {worker.pid, *worker.children()}


def test_beat_starts_and_stops(start_process: StartProcess, redis_url: str, tmp_path: Path) -> None:
    schedule = str(tmp_path / "schedule")
    beat = start_process("celery", "-A", "pattern_storage", "beat", "-l", "DEBUG", "-s", schedule, REDIS_URL=redis_url)
    wait_until(lambda: "beat: Waking up in" in beat.text(), "beat has started and sleeps")
    assert beat.stop() == 0
    assert "Traceback" not in beat.text()
