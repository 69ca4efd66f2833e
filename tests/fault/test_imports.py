"""Imports whose worker dies: nothing of them is written, and the run is done once by whoever gets it next."""

import os
import signal
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg
import redis

from pattern_storage.embedded import EmbeddedPostgres, EmbeddedValkey
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import IN_TRANSACTION, worker_connections
from tests.fix_faults import AT_ONCE, SOON, Launch, crash, start_again
from tests.fix_imports import make_plan, patterns, queue_run, runs_of, write_lines
from tests.fix_process import DEADLINE, StartProcess, wait_until
from tests.fix_slow_file import SlowFile
from tests.fix_storage import count_patterns

#: One process, for imports alone, as a deployment has it.
IMPORTS: dict[str, Any] = {"queues": ["imports"], "concurrency": 1}
#: Beat puts a run that nobody holds on the queue again after a second.
QUICK = {"PATTERN_STORAGE_RELAY_REPUBLISH_DELAY": "1"}
#: Redis itself delivers again after an hour.
LATE = {"PATTERN_STORAGE_VISIBILITY_TIMEOUT": "3600"}


def in_ledger(database_url: str, run_id: UUID) -> int:
    with psycopg.connect(database_url) as connection:
        cursor = connection.execute("SELECT count(*) FROM job_ledger WHERE correlation_id = %s", [run_id])
        [(count,)] = cursor.fetchall()
    return int(count)


def test_a_worker_killed_in_mid_import_and_redis_delivers_again(
    launch: Launch, database_url: str, redis_url: str, slow_file: SlowFile
) -> None:
    worker = launch(database_url, redis_url, env=AT_ONCE, **IMPORTS)
    run_id = queue_run(database_url, redis_url, make_plan(slow_file.url))
    with PatternStorageClient(redis_url=redis_url) as client:
        job = client.get(run_id)
        wait_until(lambda: (job.progress() or {}).get("current", 0) >= 200, "it is in the middle")
        crash(worker)
        wait_until(lambda: worker_connections(database_url, IN_TRANSACTION) == [], "PostgreSQL has rolled back")
        assert count_patterns(database_url) == 0
        assert (runs_of(database_url)[0]["state"], in_ledger(database_url, run_id)) == ("running", 0)
        slow_file.go_on.set()
        start_again(worker)
        wait_until(lambda: in_ledger(database_url, run_id), "it is done")
        result = wait_until(lambda: job.status() == "SUCCESS" and job.result(DEADLINE), "Redis knows")
    assert result.data["rows_inserted"] == 400
    assert count_patterns(database_url) == 400
    [run] = runs_of(database_url)
    assert (run["state"], run["attempts"], slow_file.begun) == ("done", 2, 2)


def test_a_worker_killed_in_mid_merge_and_beat_publishes_again(
    launch: Launch,
    start_process: StartProcess,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        # A first load would not merge.
        connection.execute(
            "INSERT INTO pattern_templates (pattern_name, pattern_type, language, template_code)"
            " VALUES ('a', 'b', 'c', '')"
        )
    worker = launch(database_url, redis_url, env=QUICK | LATE, **IMPORTS)
    plan = make_plan(write_lines(tmp_path / "a.jsonl", patterns(500)))
    with psycopg.connect(database_url) as writer:
        # Readers pass: the run looks first whether there is any pattern.
        writer.execute("LOCK TABLE pattern_templates IN EXCLUSIVE MODE")
        run_id = queue_run(database_url, redis_url, plan)
        merging = psycopg.sql.SQL("wait_event_type = 'Lock' AND query LIKE '%INSERT INTO pattern_templates%'")
        wait_until(lambda: worker_connections(database_url, merging), "it merges")
        crash(worker)
    wait_until(lambda: worker_connections(database_url, IN_TRANSACTION) == [], "PostgreSQL has rolled back")
    assert count_patterns(database_url) == 1
    # Not even the message is left.
    with redis.Redis.from_url(redis_url) as store:
        store.flushdb()
    start_process(
        "celery", "-A", "pattern_storage", "beat", "-s", str(tmp_path / "beat"),
        DATABASE_URL=database_url, REDIS_URL=redis_url, **QUICK,
    )  # fmt: skip
    start_again(worker)
    wait_until(lambda: in_ledger(database_url, run_id), "it is done")
    assert count_patterns(database_url) == 501
    [run] = runs_of(database_url)
    assert (run["state"], run["attempts"], run["rows_inserted"]) == ("done", 2, 500)


def test_a_process_of_the_pool_killed(launch: Launch, database_url: str, redis_url: str, slow_file: SlowFile) -> None:
    worker = launch(database_url, redis_url, env=SOON, **IMPORTS)
    run_id = queue_run(database_url, redis_url, make_plan(slow_file.url))
    with PatternStorageClient(redis_url=redis_url) as client:
        job = client.get(run_id)
        wait_until(job.progress, "it has begun")
        [child] = psutil.Process(worker.pid).children()
        os.kill(child.pid, signal.SIGKILL)
        slow_file.go_on.set()
        result = wait_until(lambda: job.status() == "SUCCESS" and job.result(DEADLINE), "it is done")
    assert result.data["rows_inserted"] == 400
    assert count_patterns(database_url) == 400
    assert runs_of(database_url)[0]["attempts"] == 2


def test_postgresql_killed_in_mid_import(
    launch: Launch, mortal_postgres: EmbeddedPostgres, mortal_database: str, redis_url: str, slow_file: SlowFile
) -> None:
    launch(mortal_database, redis_url, env=SOON, **IMPORTS)
    run_id = queue_run(mortal_database, redis_url, make_plan(slow_file.url))
    with PatternStorageClient(redis_url=redis_url) as client:
        job = client.get(run_id)
        wait_until(job.progress, "it has begun")
        mortal_postgres.kill()
        slow_file.go_on.set()
        wait_until(lambda: job.status() == "RETRY", "it has noticed")
        mortal_postgres.start()
        result = wait_until(lambda: job.status() == "SUCCESS" and job.result(DEADLINE), "it is done")
    assert result.data["rows_inserted"] == 400
    assert count_patterns(mortal_database) == 400
    assert in_ledger(mortal_database, run_id) == 1


def test_a_run_that_a_stopping_worker_hands_back_has_not_failed(
    launch: Launch, database_url: str, redis_url: str, slow_file: SlowFile
) -> None:
    """Each deployment stops the workers; a long run would soon have no attempts left."""
    soft = {"REMAP_SIGTERM": "SIGQUIT", "PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "0.1"}
    worker = launch(database_url, redis_url, env=SOON | soft, **IMPORTS)
    run_id = queue_run(database_url, redis_url, make_plan(slow_file.url))
    with PatternStorageClient(redis_url=redis_url) as client:
        job = client.get(run_id)
        wait_until(job.progress, "it has begun")
        assert runs_of(database_url)[0]["attempts"] == 1
        worker.stop()
        assert runs_of(database_url)[0]["attempts"] == 0
        wait_until(lambda: worker_connections(database_url, IN_TRANSACTION) == [], "PostgreSQL has rolled back")
        slow_file.go_on.set()
        start_again(worker)
        result = wait_until(lambda: job.status() == "SUCCESS" and job.result(DEADLINE), "it is done")
    assert result.data["rows_inserted"] == 400
    assert runs_of(database_url)[0]["attempts"] == 1


def test_cancelled_while_redis_is_away(
    launch: Launch, database_url: str, mortal_valkey: EmbeddedValkey, slow_file: SlowFile
) -> None:
    """Telling how far a run is needs Redis; ending it does not."""
    launch(database_url, mortal_valkey.url, env=LATE, **IMPORTS)
    run_id = queue_run(database_url, mortal_valkey.url, make_plan(slow_file.url))
    with PatternStorageClient(redis_url=mortal_valkey.url, database_url=database_url) as client:
        wait_until(client.get(run_id).progress, "it has begun")
        mortal_valkey.kill()
        assert client.cancel(run_id).metadata["error_type"] == "revoked"
    wait_until(lambda: worker_connections(database_url, IN_TRANSACTION) == [], "it has rolled back")
    assert runs_of(database_url)[0]["state"] == "cancelled"
    mortal_valkey.start()
