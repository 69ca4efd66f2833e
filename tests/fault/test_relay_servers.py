"""Relays whose servers restart, are cut off or lose their data: every committed job is done exactly once."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import redis

from pattern_storage.embedded import EmbeddedPostgres, EmbeddedValkey
from pattern_storage.storage import schema
from tests.fix_celery import BLOCKED, launch_worker, locked_patterns, worker_connections
from tests.fix_outbox import assert_done_once, number, queued, relay_connections, unpublished, write_jobs
from tests.fix_process import StartProcess, wait_until


def test_flushed_redis(
    start_relay: StartProcess, database_url: str, lone_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """One job is being done, another waits: both come again after the delay, and each is done once."""
    start_relay(REDIS_URL=lone_valkey.url, PATTERN_STORAGE_RELAY_REPUBLISH_DELAY="1")
    worker = launch_worker(database_url, lone_valkey.url, tmp_path / "worker.log", concurrency=1)
    with ExitStack() as stack, locked_patterns(database_url) as patterns:
        stack.callback(worker.stop)
        write_jobs(database_url, 2, size=1)
        wait_until(lambda: worker_connections(database_url, BLOCKED), "one is being done")
        with redis.Redis.from_url(lone_valkey.url) as server:
            server.flushall()
        again = "SELECT count(*) FROM outbox WHERE published > 1"
        wait_until(lambda: number(database_url, again) == 2, "both are published again")
        patterns.rollback()
        assert_done_once(database_url, 2)


@pytest.fixture
def lone_postgres(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A migrated PostgreSQL of this test's own, to stop and to kill; durable, so that it keeps what was marked."""
    with EmbeddedPostgres(server_directory / "lone-postgres") as server:
        schema.upgrade(server.url)
        yield server


def test_postgresql_restarts(start_relay: StartProcess, lone_postgres: EmbeddedPostgres, redis_url: str) -> None:
    relay = start_relay(DATABASE_URL=lone_postgres.url)
    ids: list[str] = []
    for stop in (lone_postgres.stop, lone_postgres.kill):
        ids.extend(write_jobs(lone_postgres.url, 3))
        wait_until(lambda: unpublished(lone_postgres.url) == 0, "the relay works")
        troubles = relay.text().count("cannot publish: ")
        stop()
        wait_until(lambda n=troubles: relay.text().count("cannot publish: ") > n, "it notices")  # type: ignore[misc]
        time.sleep(0.5)  # some more tries
        assert relay.text().count("cannot publish: ") == troubles + 1
        lone_postgres.start()
    ids.extend(write_jobs(lone_postgres.url, 3))
    wait_until(lambda: Counter(queued(redis_url)) == Counter(ids), "the relay works again")
    # It says so after the commit that empties the outbox.
    wait_until(lambda: relay.text().count("recovered (cannot publish)") == 2, "it says that it recovered, twice")
    assert "Traceback" not in relay.text()
    assert all(line.startswith("[") for line in relay.text().splitlines()), "one line each"
    assert relay.stop() == 0


def test_the_queue_restarts(start_relay: StartProcess, database_url: str, lone_valkey: EmbeddedValkey) -> None:
    relay = start_relay(REDIS_URL=lone_valkey.url, PATTERN_STORAGE_CONNECT_TIMEOUT="1")
    wait_until(lambda: "relay: started" in relay.text(), "it has started")
    lone_valkey.kill()
    ids = write_jobs(database_url, 3)
    wait_until(lambda: "cannot publish: the queue does not answer" in relay.text(), "it notices")
    time.sleep(0.5)  # some more tries
    assert relay.text().count("cannot publish") == 1
    assert unpublished(database_url) == 3
    lone_valkey.start()
    wait_until(lambda: unpublished(database_url) == 0, "all are published")
    assert set(Counter(queued(lone_valkey.url))) == set(ids)
    wait_until(lambda: "recovered (cannot publish)" in relay.text(), "it says that it recovered")
    assert "Traceback" not in relay.text()


def test_a_relay_that_is_cut_connects_again(start_relay: StartProcess, database_url: str, redis_url: str) -> None:
    relay = start_relay()
    [first] = wait_until(lambda: relay_connections(database_url), "it is connected")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [first])
    ids = write_jobs(database_url, 3)
    wait_until(lambda: Counter(queued(redis_url)) == Counter(ids), "all are published")
    wait_until(lambda: "recovered (cannot publish)" in relay.text(), "it says so")
    assert "Traceback" not in relay.text()


def test_ends_while_its_servers_are_down(start_relay: StartProcess, absent_url: str) -> None:
    database_url = absent_url.replace("redis", "postgresql")
    relay = start_relay(REDIS_URL=absent_url, DATABASE_URL=database_url)
    wait_until(lambda: "cannot publish" in relay.text(), "it notices")
    assert relay.stop() == 0
    assert "Traceback" not in relay.text()
