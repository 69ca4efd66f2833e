"""What the endpoints of real workers and of a real relay say, under every pool."""

import json
import os
import re
import signal
import socket
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import StartWorker, StorageWorker, locked_patterns
from tests.fix_metrics import Measured, Scrape, alerts, expressions, free_port
from tests.fix_process import ROOT, StartProcess, run_python, wait_until
from tests.fix_storage import contract, make_pattern

PORT = "PATTERN_STORAGE_METRICS_PORT"


def test_jobs_of_every_outcome(measured: Measured) -> None:
    scrape = measured.wait_for("the dead letter", lambda scrape: scrape.value("jobs_total", outcome="dead"))
    for operation, count in {"insert": 3, "update": 1, "delete": 1, "batch_insert": 1, "query": 1}.items():
        # insert: the first, the replayed one twice, and the foreign one.
        assert scrape.value("jobs_total", operation=operation, outcome="success") == count + (operation == "insert")
    assert scrape.value("jobs_total", operation="insert", outcome="failure", error_type="unique_violation") == 1
    assert scrape.value("jobs_total", operation="insert", outcome="revoked", error_type="revoked") == 1
    assert scrape.value("jobs_total", outcome="dead", error_type="transaction_conflict") == 1
    assert scrape.value("retries_total", operation="insert", error_type="transaction_conflict") == 1
    assert scrape.value("ledger_replays_total") == 1


def test_a_jobs_time_is_split(measured: Measured) -> None:
    scrape = measured.wait_for("the dead letter", lambda scrape: scrape.value("jobs_total", outcome="dead"))
    ended = scrape.value("jobs_total", operation="insert")
    # All first deliveries but the foreign one.
    assert scrape.value("queue_wait_seconds_count", operation="insert") == ended - 1
    # All but the revoked one, whose result was stored by whoever revoked it.
    assert scrape.value("result_store_seconds_count", operation="insert") == ended - 1
    assert scrape.value("transaction_seconds_count", operation="insert") >= ended
    assert 0 < scrape.value("transaction_seconds_sum", operation="update") < 60
    assert 0 < scrape.value("queue_wait_seconds_sum", operation="update") < 60
    assert scrape.value("group_size_sum", kind="batch") == 3
    assert scrape.value("group_size_count", kind="batch") == 1


def test_what_servers_know(measured: Measured) -> None:
    with redis.Redis.from_url(measured.worker.redis_url) as connection:
        scrape = measured.scrape()
        for server in ("postgresql", "broker", "results"):
            assert scrape.value("up", server=server) == 1
        assert scrape.value("dead_letters") == 1
        assert scrape.value("outbox_jobs", state="unpublished") == 1
        assert scrape.value("outbox_age_seconds") > 0
        assert scrape.value("queue_messages") == 0
        # A worker that takes nothing: all priorities count, and what is claimed counts apart.
        measured.plain.control.cancel_consumer("imports", reply=True)
        connection.rpush("imports", "first", "second")
        connection.rpush("imports\x06\x169", "urgent")
        connection.rpush("imports.claimed", "claimed")
        scrape = measured.scrape()
        assert scrape.value("queue_messages", queue="imports", state="waiting") == 3
        assert scrape.value("queue_messages", queue="imports", state="claimed") == 1
        # Of all priorities; what does not say when it was sent has no age.
        assert scrape.value("queue_oldest_seconds", queue="imports") == 0
        connection.rpush("imports\x06\x169", json.dumps({"headers": {"sent_at": time.time() - 3_600}}))
        assert 3_600 <= measured.scrape().value("queue_oldest_seconds", queue="imports") < 7_200
        assert scrape.value("queue_messages", queue="storage") == 0
        connection.delete("imports", "imports\x06\x169", "imports.claimed")
        # Whatever the queue is called, and whether or not anybody takes from it.
        message = {"headers": {"task": "storage.insert", "sent_at": time.time() - 3_600}}
        connection.rpush("fast", json.dumps(message))

        def found() -> bool:
            return 3_600 <= measured.scrape().value("queue_oldest_seconds", queue="fast") < 7_200

        wait_until(found, "the queue is measured")
        assert measured.scrape().value("queue_messages", queue="fast", state="waiting") == 1
        connection.delete("fast")


def test_imports(measured: Measured) -> None:
    rows = {"read": 6, "inserted": 2, "updated": 0, "skipped": 2, "rejected": 2}

    def counted(scrape: Scrape) -> bool:
        return rows == {outcome: scrape.value("import_rows_total", name="nightly", outcome=outcome) for outcome in rows}

    scrape = measured.wait_for("both runs are counted", counted)
    assert scrape.value("jobs_total", operation="import", outcome="success") == 2
    assert scrape.value("import_last_success_timestamp_seconds", name="nightly") > 1e9
    for gauge in ("import_open_seconds", "import_last_failed"):
        assert scrape.value(gauge, name="nightly") == 0


def test_the_documents_table_is_complete(measured: Measured) -> None:
    scrape = measured.scrape()
    exported = {
        f"{family.name}_total" if family.type == "counter" else family.name: (
            family.type, {label for sample in family.samples for label in sample.labels} - {"le"}
        )
        for family in scrape.families
    }  # fmt: skip
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(pattern_storage_\w+)` \| (\w+) \|([^|]*)\|", text, re.MULTILINE)
    assert {name: (kind, set(re.findall(r"\w+", labels))) for name, kind, labels in rows} == exported


@pytest.mark.parametrize("where", expressions())
def test_alerts_and_dashboard_use_what_is_exported(measured: Measured, where: str) -> None:
    expression = expressions()[where]
    # Prometheus's own.
    labels = {"up": {"job", "instance"}} | measured.scrape().labels()
    selectors = re.findall(r"\b(pattern_storage_\w+|up)\b(?:\{([^}]*)\})?", expression)
    assert selectors
    usable = {"instance"}
    for name, conditions in selectors:
        assert name in labels
        usable |= labels[name]
        assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", conditions)) <= labels[name]
    for grouping in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(re.findall(r"\w+", grouping)) <= usable


def test_every_alert_says_what_to_do() -> None:
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools(pool: str, start_worker: StartWorker, client: PatternStorageClient, tmp_path: Path) -> None:
    port = free_port(tmp_path)
    worker = start_worker(pool=pool, env={PORT: str(port)})
    with locked_patterns(worker.database_url):
        job = client.query(limit=1)
        wait_until(lambda: Scrape(port).value("pool_connections", state="in_use") == 1, "a connection is in use")
        scrape = Scrape(port)
        assert scrape.value("unacked_messages") == 1
        # Of ten, threads have half for groups.
        assert scrape.value("pool_connections_limit") == (5 if pool == "threads" else 10)
        assert scrape.value("pool_requests_waiting") == 0
    assert job.result(timeout=60).success
    wait_until(lambda: Scrape(port).value("pool_connections", state="in_use") == 0, "none is in use")
    wait_until(lambda: Scrape(port).value("jobs_total", operation="query", outcome="success") == 1, "it is counted")


def test_children_that_come_and_go(start_worker: StartWorker, client: PatternStorageClient, tmp_path: Path) -> None:
    port = free_port(tmp_path)
    # Other tests' workers have folders of theirs, elsewhere.
    environment = {PORT: str(port), "TMPDIR": str(tmp_path)}
    worker = start_worker(concurrency=1, env=environment, options=("--max-tasks-per-child", "2"))
    [directory] = tmp_path.glob("pattern-storage-metrics-*")
    [first] = worker.children()
    # The third is for the next child: Celery may take five seconds to begin it.
    for _ in range(3):
        assert client.insert(make_pattern()).result(timeout=60).success
    wait_until(lambda: Scrape(port).value("jobs_total", outcome="success") == 3, "what the first counted goes on")
    [second] = wait_until(worker.children, "a child")
    assert second != first
    # It is killed, and its gauges with it: one child has one pool.
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: worker.children() and worker.children() != [second], "a child has followed")
    assert client.insert(make_pattern()).result(timeout=60).success
    wait_until(lambda: Scrape(port).value("jobs_total", outcome="success") == 4, "the fourth is counted")
    # The tenth is for groups.
    assert Scrape(port).value("pool_connections_limit") == 9
    # However many children there were, there is one set of files for the child and one for the main process.
    assert {file.stem.rpartition("_")[2] for file in directory.glob("*.db")} == {"main", "1"}
    assert worker.stop() == 0
    assert not directory.exists()


def test_a_server_that_is_down_breaks_no_scrape(
    start_worker: StartWorker,
    database_url: str,
    absent_url: str,
    tmp_path: Path,
) -> None:
    port = free_port(tmp_path)
    start_worker(env={PORT: str(port), "RESULT_BACKEND_URL": absent_url})
    scrape = Scrape(port)
    assert scrape.value("up", server="results") == 0
    assert scrape.value("up", server="broker") == 1
    assert scrape.value("jobs_total", operation="insert") == 0
    wait_until(lambda: Scrape(port).value("up", server="postgresql") == 1, "PostgreSQL answers")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE dead_letters RENAME TO gone")
        scrape = Scrape(port)
        assert scrape.value("up", server="postgresql") == 0
        assert not any(sample.name == "pattern_storage_dead_letters" for sample in scrape.samples)
        connection.execute("ALTER TABLE gone RENAME TO dead_letters")
    wait_until(lambda: Scrape(port).value("up", server="postgresql") == 1, "PostgreSQL answers again")


def test_a_relay_says_what_it_knows(
    start_process: StartProcess, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    port = free_port(tmp_path)
    relay = start_process(
        "pattern_storage", "relay", DATABASE_URL=database_url, REDIS_URL=redis_url, **{PORT: str(port)}
    )  # fmt: skip
    with PatternStorageClient(redis_url=redis_url) as client, psycopg.connect(database_url) as connection:
        client.submit_in(connection, contract("insert", data=make_pattern()))
        connection.execute("""SELECT enqueue_pattern_job('{"operation": "insert", "surprise": 1}')""")
    wait_until(lambda: "relay: started" in relay.text(), "the relay has started")
    wait_until(lambda: Scrape(port).value("outbox_published_total") == 1, "one is published")
    wait_until(lambda: Scrape(port).value("outbox_refused_total") == 1, "one is refused")
    scrape = Scrape(port)
    assert scrape.value("dead_letters") == 1
    assert scrape.value("outbox_jobs", state="published") == 1
    assert scrape.value("queue_messages", queue="storage", state="waiting") == 1


def test_a_port_that_is_taken(database_url: str, redis_url: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        done = run_python(
            "-m", "celery", "-A", "pattern_storage", "worker", DATABASE_URL=database_url, REDIS_URL=redis_url,
            PATTERN_STORAGE_METRICS_PORT=str(port),
        )  # fmt: skip
    assert done.returncode == 2
    assert f"PATTERN_STORAGE_METRICS_PORT is {port}, but 127.0.0.1:{port} cannot be listened on" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_removes_the_folder_of_one_that_was_killed(start_worker: StartWorker, tmp_path: Path) -> None:
    folders = tmp_path / "temporary"
    folders.mkdir()

    def start() -> tuple[StorageWorker, set[Path]]:
        before = set(folders.iterdir())
        variables = {PORT: str(free_port(tmp_path)), "TMPDIR": str(folders)}
        worker = start_worker(concurrency=1, env=variables)
        return worker, set(folders.glob("pattern-storage-metrics-*")) - before

    killed, old = start()
    living, kept = start()
    assert len(old) == len(kept) == 1
    killed.container.group.kill()
    _, new = start()
    assert set(folders.glob("pattern-storage-metrics-*")) == kept | new
    assert living.stop() == 0
    assert set(folders.glob("pattern-storage-metrics-*")) == new
