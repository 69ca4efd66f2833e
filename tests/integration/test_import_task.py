"""The task `imports.run` in real workers: progress, cancelling, retries, limits, and what goes on meanwhile."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import redis
from celery import Celery
from celery.events.state import State
from psycopg.types.json import Jsonb

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.tasks.client import AsyncPatternStorageClient, PatternStorageClient
from tests.fix_celery import IN_TRANSACTION, StartWorker, StorageWorker, worker_connections
from tests.fix_events import EventOf, listening
from tests.fix_imports import make_plan, patterns, queue_run, runs_of, write_lines
from tests.fix_process import DEADLINE, wait_until
from tests.fix_slow_file import SlowFile
from tests.fix_storage import count_patterns, make_pattern

SOON = {"PATTERN_STORAGE_RETRY_BACKOFF": "0", "PATTERN_STORAGE_RETRY_BACKOFF_MAX": "1"}


@pytest.fixture
def event(redis_url: str) -> Iterator[EventOf]:
    """Wait for an event of a run."""
    with listening(redis_url) as event:
        yield event


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_long_run_tells_how_far_it_is_and_holds_nobody_up(
    start_worker: StartWorker,
    client: PatternStorageClient,
    slow_file: SlowFile,
    database_url: str,
    redis_url: str,
    event: EventOf,
    pool: str,
) -> None:
    worker = start_worker(pool=pool)
    job = client.get(queue_run(database_url, redis_url, make_plan(slow_file.url)))
    # Half of it is read, and the server says nothing more.
    about = wait_until(lambda: (found := job.progress()) and found["current"] >= 200 and found, "half of it is read")
    assert job.status() == "PROGRESS"
    assert (about["name"], about["phase"], about["total"]) == ("nightly", "reading", None)
    assert 40 < about["percent"] < 60
    progress = event("task-progress", job.correlation_id, lambda sent: sent["current"] >= 200)
    assert progress["hostname"] == worker.hostname()
    assert progress["import_name"] == "nightly"
    # As Flower sees it.
    state: Any = State()
    state.event({**progress, "type": "task-received", "name": "imports.run"})
    state.event({**progress})
    assert (state.tasks[progress["uuid"]].name, state.tasks[progress["uuid"]].state) == ("imports.run", "PROGRESS")
    assert {"current", "total", "rate", "percent", "seconds_left"} <= progress.keys()

    # Control commands, heartbeats and other jobs go on; under threads all jobs share one event loop.
    with Celery(broker=redis_url, set_as_current=False) as operator:
        assert operator.control.ping(destination=[worker.hostname()], timeout=DEADLINE, limit=1)
        active: Any = operator.control.inspect([worker.hostname()], timeout=DEADLINE, limit=1).active()
        [task] = active[worker.hostname()]
        assert (task["name"], task["kwargs"]) == ("imports.run", {"name": "nightly", "due": None})
    for _ in range(20):
        assert client.insert(make_pattern()).result(DEADLINE).success
    assert job.status() == "PROGRESS"
    # The message was delivered long ago, as far as the broker knows; the run keeps it.
    with redis.Redis.from_url(redis_url) as store:
        wait_until(lambda: store.zcard(UNACKED_KEYS["unacked_index_key"]) == 1, "the others are acknowledged")
        [(_, delivered)] = store.zrange(UNACKED_KEYS["unacked_index_key"], 0, -1, withscores=True)
        wait_until(
            lambda: store.zrange(UNACKED_KEYS["unacked_index_key"], 0, -1, withscores=True)[0][1] > delivered,
            "it is renewed",
        )
        slow_file.go_on.set()
        result = job.result(DEADLINE)
        assert result.success, result.error
        assert (result.data["rows_read"], result.data["rows_inserted"]) == (400, 400)
        assert job.progress() is None
        wait_until(lambda: store.zcard(UNACKED_KEYS["unacked_index_key"]) == 0, "it is acknowledged")
    assert count_patterns(database_url) == 420
    [run] = runs_of(database_url)
    assert (run["state"], run["attempts"]) == ("done", 1)
    assert "Traceback" not in worker.logs()


async def test_the_asyncio_client_sees_it_too(
    worker: StorageWorker, served_async_client: AsyncPatternStorageClient, slow_file: SlowFile
) -> None:
    unknown = served_async_client.get(uuid4())
    assert await unknown.progress() is None
    job = served_async_client.get(queue_run(worker.database_url, worker.redis_url, make_plan(slow_file.url)))
    async with asyncio.timeout(DEADLINE):
        while not (about := await job.progress()):  # what is asked is outside this process
            pass
    assert about["name"] == "nightly"
    slow_file.go_on.set()
    assert (await job.result(DEADLINE)).data["rows_inserted"] == 400


def test_cancelling_rolls_back(worker: StorageWorker, slow_file: SlowFile) -> None:
    before = count_patterns(worker.database_url)
    run_id = queue_run(worker.database_url, worker.redis_url, make_plan(slow_file.url))
    with PatternStorageClient(redis_url=worker.redis_url, database_url=worker.database_url) as client:
        job = client.get(run_id)
        wait_until(job.progress, "it has begun")
        assert job.cancel().metadata["error_type"] == "revoked"
        assert job.status() == "REVOKED"
        wait_until(lambda: runs_of(worker.database_url)[-1]["state"] == "cancelled", "the worker has noticed")
        wait_until(lambda: worker_connections(worker.database_url, IN_TRANSACTION) == [], "it has rolled back")
        assert job.status() == "REVOKED"
        assert count_patterns(worker.database_url) == before
        slow_file.go_on.set()
        again = client.get(queue_run(worker.database_url, worker.redis_url, make_plan(slow_file.url)))
        assert again.result(DEADLINE).data["rows_inserted"] == 400


def test_a_source_that_is_away_is_tried_again(
    start_worker: StartWorker, client: PatternStorageClient, slow_file: SlowFile, database_url: str, redis_url: str
) -> None:
    slow_file.status = 503
    slow_file.go_on.set()
    worker = start_worker(concurrency=1, env=SOON)
    job = client.get(queue_run(database_url, redis_url, make_plan(slow_file.url)))
    wait_until(lambda: job.status() == "RETRY", "it is to be tried again")
    slow_file.status = 200
    assert job.result(DEADLINE).data["rows_inserted"] == 400
    [run] = runs_of(database_url)
    assert (run["state"], run["attempts"] > 1) == ("done", True)

    slow_file.status = 503
    job = client.get(queue_run(database_url, redis_url, make_plan(slow_file.url, name="other")))
    result = job.result(DEADLINE)
    assert result.metadata["error_type"] == "source_unavailable"
    assert "retryable" not in result.metadata
    run = runs_of(database_url)[1]
    assert (run["state"], run["attempts"], run["error"]) == ("failed", 5, result.error)
    assert "Traceback" not in worker.logs()


def test_beat_leaves_a_run_alone_that_is_to_be_tried_again(
    start_worker: StartWorker, client: PatternStorageClient, slow_file: SlowFile, database_url: str, redis_url: str
) -> None:
    start_worker(
        concurrency=1, env={"PATTERN_STORAGE_RETRY_BACKOFF": "300", "PATTERN_STORAGE_RETRY_BACKOFF_MAX": "500"}
    )
    job = client.get(queue_run(database_url, redis_url, make_plan(slow_file.url)))
    wait_until(job.progress, "it has begun")
    with psycopg.connect(database_url, autocommit=True) as connection:
        # As if the attempt had taken long.
        connection.execute("UPDATE import_runs SET publish_after = now() - interval '1 hour'")
        slow_file.status = 503
        slow_file.go_on.set()
        wait_until(lambda: job.status() == "RETRY", "it is to be tried again")
        assert connection.execute("SELECT FROM import_runs WHERE publish_after > now()").fetchall()


def test_a_plan_that_the_worker_cannot_read(
    start_worker: StartWorker, client: PatternStorageClient, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Beat was upgraded before the workers: the attempts count, and the run ends."""
    start_worker(concurrency=1, env=SOON | {"PATTERN_STORAGE_MAX_ATTEMPTS": "2"})
    run_id, plan = uuid4(), make_plan(write_lines(tmp_path / "a.jsonl", patterns(2))).content | {"colour": "blue"}
    with psycopg.connect(database_url, autocommit=True) as connection:
        values = [run_id, "newer", Jsonb(plan)]
        connection.execute("INSERT INTO import_runs (run_id, name, plan) VALUES (%s, %s, %s)", values)
    with Celery(broker=redis_url, set_as_current=False) as app:
        app.send_task("imports.run", task_id=str(run_id), queue="imports")
    result = client.get(run_id).result(DEADLINE)
    assert result.metadata["error_type"] == "schema_mismatch"
    assert "this worker's version cannot read the plan of the run: " in str(result.error)
    assert "colour" in str(result.error)
    [run] = runs_of(database_url)
    assert (run["state"], run["attempts"], run["error_type"]) == ("failed", 2, "schema_mismatch")
    assert run["finished_at"]
    # Whoever comes again gets the same answer.
    with redis.Redis.from_url(redis_url) as store:
        store.flushdb()
    with PatternStorageClient(redis_url=redis_url, database_url=database_url) as both:
        assert both.get(run_id).result(DEADLINE).error == result.error


def test_time_limit(
    start_worker: StartWorker, client: PatternStorageClient, slow_file: SlowFile, database_url: str, redis_url: str
) -> None:
    start_worker(concurrency=1, env={"PATTERN_STORAGE_IMPORT_TIME_LIMIT": "1"})
    job = client.get(queue_run(database_url, redis_url, make_plan(slow_file.url)))
    result = job.result(DEADLINE)
    assert result.metadata["error_type"] == "time_limit_exceeded"
    assert worker_connections(database_url, IN_TRANSACTION) == []
    assert runs_of(database_url)[0]["state"] == "failed"
    assert count_patterns(database_url) == 0


def test_what_is_no_run(worker: StorageWorker, served_client: PatternStorageClient, tmp_path: Path) -> None:
    with Celery(broker=worker.redis_url, backend=worker.redis_url, set_as_current=False) as app:
        app.send_task("imports.run", task_id="no-uuid", queue="imports")
        unknown, broken = uuid4(), uuid4()
        app.send_task("imports.run", task_id=str(unknown), queue="imports", kwargs={"name": "x\ny"})
        result = served_client.get(unknown).result(DEADLINE)
        assert result.metadata["error_type"] == "validation_error"
        assert str(result.error).startswith(f"no import run has the id {unknown}; start one with")
        app.send_task("imports.run", task_id=str(broken), queue="imports", kwargs={"plan": {"source": "/etc/passwd"}})
        assert not served_client.get(broken).result(DEADLINE).success, "a message does not say what is imported"
    path = write_lines(tmp_path / "a.jsonl", patterns(2))
    job = served_client.get(queue_run(worker.database_url, worker.redis_url, make_plan(path)))
    assert job.result(DEADLINE).data["rows_inserted"] == 2
    failed = served_client.get(queue_run(worker.database_url, worker.redis_url, make_plan(path), force=True))
    result = failed.result(DEADLINE)
    assert (failed.status(), result.metadata["error_type"]) == ("FAILURE", "unique_violation")
    assert worker.container.status == "running"
