"""Relays that are killed, many at once, or cut off from their servers: every committed job is done exactly once."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
import pytest
import redis

from pattern_storage.embedded import EmbeddedPostgres, EmbeddedValkey
from pattern_storage.storage import outbox, schema
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import BLOCKED, StorageWorker, launch_worker, locked_patterns, worker_connections
from tests.fix_process import DEADLINE, ROOT, ProcessGroup, clean_environment, wait_until
from tests.fix_storage import contract, make_pattern

StartProcess = Callable[..., ProcessGroup]
StartWorker = Callable[..., StorageWorker]

#: Has everything imported and forks a relay for each line it reads, which may say where the relay ends itself.
FORGE = """
import os, signal, sys
from pattern_storage.config.settings import load_settings
from pattern_storage.storage import outbox
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.relay import Relay

def end(*arguments, **options):
    os._exit(9)

for line in sys.stdin:
    where = line.strip()
    if where.isdigit():
        print(os.waitstatus_to_exitcode(os.waitpid(int(where), 0)[1]), flush=True)
        continue
    if (pid := os.fork()) == 0:
        signal.alarm(120)  # or a relay that does not end where it should is waited for without an end
        if where == "before publishing":
            PatternStorageClient.publish = end
        if where == "before marking":
            outbox.mark_published = end
        Relay(load_settings()).run()
        os._exit(0)
    print(pid, flush=True)
"""


class Forge:
    """Starts relays within milliseconds."""

    def __init__(self, **variables: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORGE], cwd=ROOT, env=clean_environment(**variables),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, request: object) -> int:
        assert self._process.stdin
        assert self._process.stdout
        print(request, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(DEADLINE)


@pytest.fixture
def forge(database_url: str, redis_url: str) -> Iterator[Forge]:
    opened = Forge(DATABASE_URL=database_url, REDIS_URL=redis_url)
    yield opened
    opened.close()


@pytest.fixture
def start_relay(start_process: StartProcess, database_url: str, redis_url: str) -> Callable[..., ProcessGroup]:
    """Start `pattern-storage relay` on this test's servers."""

    def start(**variables: str) -> ProcessGroup:
        return start_process(
            "pattern_storage", "relay", **{"DATABASE_URL": database_url, "REDIS_URL": redis_url} | variables
        )

    return start


def submit(database_url: str, count: int, size: int = 50) -> list[str]:
    """Write that many inserts into the outbox, `size` in a transaction; return their ids."""
    ids = []
    with psycopg.connect(database_url) as application:
        for start in range(0, count, size):
            for _ in range(min(size, count - start)):
                asked = contract("insert", data=make_pattern())
                outbox.add_sync(application, asked)
                ids.append(str(asked.correlation_id))
            application.commit()
    return ids


def number(database_url: str, statement: LiteralString) -> int:
    with psycopg.connect(database_url, autocommit=True) as connection:
        [(found,)] = connection.execute(statement).fetchall()
    return int(found)


def waiting(database_url: str) -> int:
    return number(database_url, "SELECT count(*) FROM outbox WHERE published = 0")


def queued(redis_url: str) -> Counter[str]:
    """How many messages each job has on the queue."""
    with redis.Redis.from_url(redis_url) as server:
        messages: Any = server.lrange("storage", 0, -1)
    return Counter(json.loads(message)["headers"]["id"] for message in messages)


def assert_done_once(database_url: str, count: int) -> None:
    """Return once every job is done; fail if an effect is missing or happened twice."""
    wait_until(lambda: number(database_url, "SELECT count(*) FROM outbox") == 0, "the outbox is empty")
    assert number(database_url, "SELECT count(*) FROM pattern_templates") == count
    assert number(database_url, "SELECT count(*) FROM job_ledger WHERE (result ->> 'success')::bool") == count
    assert number(database_url, "SELECT count(*) FROM job_ledger") == count


def test_three_at_once(
    start_relay: Callable[..., ProcessGroup], start_worker: StartWorker, database_url: str, redis_url: str
) -> None:
    relays = [start_relay() for _ in range(3)]
    for relay in relays:
        wait_until(lambda relay=relay: "relay: started" in relay.text(), "it has started")  # type: ignore[misc]
    ids = submit(database_url, 1_000)
    wait_until(lambda: waiting(database_url) == 0, "all are published")
    assert queued(redis_url) == Counter(ids)
    start_worker()
    assert_done_once(database_url, 1_000)


@pytest.mark.parametrize(("where", "messages"), [("before publishing", 0), ("before marking", 1)])
def test_killed_around_publishing(
    forge: Forge, start_worker: StartWorker, database_url: str, redis_url: str, where: str, messages: int
) -> None:
    ids = submit(database_url, 20)
    assert forge.ask(forge.ask(where)) == 9
    assert queued(redis_url) == Counter(ids * messages)
    # All rows are free again, at once.
    relay = forge.ask("")
    wait_until(lambda: waiting(database_url) == 0, "all are published")
    assert queued(redis_url) == Counter(ids * (messages + 1))
    start_worker()
    assert_done_once(database_url, 20)
    psutil.Process(relay).terminate()
    assert forge.ask(relay) == -signal.SIGTERM  # not the command: it has no handler


def test_killed_at_random(forge: Forge, start_worker: StartWorker, database_url: str, redis_url: str) -> None:
    """Fifty kills while jobs keep coming; afterwards each job has a message, and is done once."""
    chance = random.Random(11)
    ids: list[str] = []
    for _ in range(25):
        pair = [forge.ask("") for _ in range(2)]
        ids += submit(database_url, 40, size=chance.choice([1, 7, 40]))
        for pid in pair:
            time.sleep(chance.uniform(0, 0.03))
            psutil.Process(pid).kill()
            assert forge.ask(pid) == -signal.SIGKILL
    last = forge.ask("")
    wait_until(lambda: waiting(database_url) == 0, "all are published")
    found = queued(redis_url)
    assert found.keys() == set(ids)
    print(f"50 kills, {len(ids)} jobs, {found.total() - len(ids)} published twice")  # noqa: T201
    start_worker()
    assert_done_once(database_url, len(ids))
    psutil.Process(last).kill()
    forge.ask(last)


def test_flushed_redis(
    start_relay: Callable[..., ProcessGroup], database_url: str, lone_valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """One job is being done, another waits: both come again after the delay, and each is done once."""
    start_relay(REDIS_URL=lone_valkey.url, PATTERN_STORAGE_RELAY_REPUBLISH_DELAY="1")
    worker = launch_worker(database_url, lone_valkey.url, tmp_path / "worker.log", concurrency=1)
    with ExitStack() as stack, locked_patterns(database_url) as patterns:
        stack.callback(worker.stop)
        submit(database_url, 2, size=1)
        wait_until(lambda: worker_connections(database_url, BLOCKED), "one is being done")
        with redis.Redis.from_url(lone_valkey.url) as server:
            server.flushall()
        again = "SELECT count(*) FROM outbox WHERE published > 1"
        wait_until(lambda: number(database_url, again) == 2, "both are published again")
        patterns.rollback()
        assert_done_once(database_url, 2)


def test_a_worker_killed_with_the_only_message(
    start_relay: Callable[..., ProcessGroup], start_worker: StartWorker, database_url: str, redis_url: str
) -> None:
    """Celery would give it back after ten minutes; the outbox does not wait for that."""
    start_relay(PATTERN_STORAGE_RELAY_REPUBLISH_DELAY="1")
    killed = start_worker(concurrency=1)
    with locked_patterns(database_url):
        submit(database_url, 1)
        wait_until(lambda: worker_connections(database_url, BLOCKED), "it is being done")
        killed.kill()
    start_worker(concurrency=1)
    assert_done_once(database_url, 1)


@pytest.fixture
def lone_postgres(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A migrated PostgreSQL of this test's own, to stop and to kill; durable, so that it keeps what was marked."""
    with EmbeddedPostgres(server_directory / "lone-postgres") as server:
        schema.upgrade(server.url)
        yield server


def test_postgresql_restarts(
    start_relay: Callable[..., ProcessGroup], lone_postgres: EmbeddedPostgres, redis_url: str
) -> None:
    relay = start_relay(DATABASE_URL=lone_postgres.url)
    ids: list[str] = []
    for stop in (lone_postgres.stop, lone_postgres.kill):
        ids.extend(submit(lone_postgres.url, 3))
        wait_until(lambda: waiting(lone_postgres.url) == 0, "the relay works")
        troubles = relay.text().count("cannot publish: ")
        stop()
        wait_until(lambda n=troubles: relay.text().count("cannot publish: ") > n, "it notices")  # type: ignore[misc]
        time.sleep(0.5)  # some more tries
        assert relay.text().count("cannot publish: ") == troubles + 1
        lone_postgres.start()
    ids.extend(submit(lone_postgres.url, 3))
    wait_until(lambda: queued(redis_url) == Counter(ids), "the relay works again")
    # It says so after the commit that empties the outbox.
    wait_until(lambda: relay.text().count("recovered (cannot publish)") == 2, "it says that it recovered, twice")
    assert "Traceback" not in relay.text()
    assert all(line.startswith("[") for line in relay.text().splitlines()), "one line each"
    assert relay.stop() == 0


def test_the_queue_restarts(
    start_relay: Callable[..., ProcessGroup], database_url: str, lone_valkey: EmbeddedValkey
) -> None:
    relay = start_relay(REDIS_URL=lone_valkey.url, PATTERN_STORAGE_CONNECT_TIMEOUT="1")
    wait_until(lambda: "relay: started" in relay.text(), "it has started")
    lone_valkey.kill()
    ids = submit(database_url, 3)
    wait_until(lambda: "cannot publish: the queue does not answer" in relay.text(), "it notices")
    time.sleep(0.5)  # some more tries
    assert relay.text().count("cannot publish") == 1
    assert waiting(database_url) == 3
    lone_valkey.start()
    wait_until(lambda: waiting(database_url) == 0, "all are published")
    assert set(queued(lone_valkey.url)) == set(ids)
    wait_until(lambda: "recovered (cannot publish)" in relay.text(), "it says that it recovered")
    assert "Traceback" not in relay.text()


def connections(database_url: str) -> list[int]:
    """The server processes that relays are connected to."""
    statement = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%relay'"
    with psycopg.connect(database_url, autocommit=True) as connection:
        return [pid for (pid,) in connection.execute(statement)]


def test_a_relay_that_is_cut_connects_again(
    start_relay: Callable[..., ProcessGroup], database_url: str, redis_url: str
) -> None:
    relay = start_relay()
    [first] = wait_until(lambda: connections(database_url), "it is connected")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", [first])
    ids = submit(database_url, 3)
    wait_until(lambda: queued(redis_url) == Counter(ids), "all are published")
    wait_until(lambda: "recovered (cannot publish)" in relay.text(), "it says so")
    assert "Traceback" not in relay.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end(start_relay: Callable[..., ProcessGroup], database_url: str, number: signal.Signals) -> None:
    """Also in the middle of a long pause."""
    relay = start_relay(PATTERN_STORAGE_RELAY_POLL_INTERVAL="3600")
    wait_until(lambda: connections(database_url), "it is connected")
    relay.kill(number)
    assert relay.process.wait(DEADLINE) == 0
    assert relay.text().endswith("relay: stopped\n")
    assert "Traceback" not in relay.text()


def test_ends_while_its_servers_are_down(start_relay: Callable[..., ProcessGroup], absent_url: str) -> None:
    database_url = absent_url.replace("redis", "postgresql")
    relay = start_relay(REDIS_URL=absent_url, DATABASE_URL=database_url)
    wait_until(lambda: "cannot publish" in relay.text(), "it notices")
    assert relay.stop() == 0
    assert "Traceback" not in relay.text()


def test_without_a_database(start_process: StartProcess, redis_url: str) -> None:
    relay = start_process("pattern_storage", "relay", REDIS_URL=redis_url)
    assert relay.process.wait(DEADLINE) == 2
    assert "Error: DATABASE_URL is not set" in relay.text()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_in_a_worker(start_worker: StartWorker, client: PatternStorageClient, database_url: str, pool: str) -> None:
    variables = {"PATTERN_STORAGE_WORKER_RELAY": "true"}
    worker = start_worker(env=variables, pool=pool, options=("--max-tasks-per-child=5",))
    [relay] = wait_until(lambda: connections(database_url), "it is connected")
    ids = submit(database_url, 50, size=5)
    assert_done_once(database_url, 50)
    assert client.get(ids[-1]).result(DEADLINE).success
    assert connections(database_url) == [relay], "one for all its processes"
    assert worker.stop() == 0
    wait_until(lambda: not connections(database_url), "it has ended")
    assert "Traceback" not in worker.logs()


def test_no_relay_in_a_worker_unasked(start_worker: StartWorker, database_url: str) -> None:
    start_worker(pool="solo")
    assert connections(database_url) == []
