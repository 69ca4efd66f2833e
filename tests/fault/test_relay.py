"""Relays that are killed, many at once or in a worker: every committed job is done exactly once."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import BLOCKED, StartWorker, locked_patterns, worker_connections
from tests.fix_outbox import assert_done_once, queued, relay_connections, unpublished, write_jobs
from tests.fix_process import DEADLINE, ROOT, StartProcess, clean_environment, wait_until

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


def test_three_at_once(start_relay: StartProcess, start_worker: StartWorker, database_url: str, redis_url: str) -> None:
    relays = [start_relay() for _ in range(3)]
    for relay in relays:
        wait_until(lambda relay=relay: "relay: started" in relay.text(), "it has started")  # type: ignore[misc]
    ids = write_jobs(database_url, 1_000)
    wait_until(lambda: unpublished(database_url) == 0, "all are published")
    assert Counter(queued(redis_url)) == Counter(ids)
    start_worker()
    assert_done_once(database_url, 1_000)


@pytest.mark.parametrize(("where", "messages"), [("before publishing", 0), ("before marking", 1)])
def test_killed_around_publishing(
    forge: Forge, start_worker: StartWorker, database_url: str, redis_url: str, where: str, messages: int
) -> None:
    ids = write_jobs(database_url, 20)
    assert forge.ask(forge.ask(where)) == 9
    assert Counter(queued(redis_url)) == Counter(ids * messages)
    # All rows are free again, at once.
    relay = forge.ask("")
    wait_until(lambda: unpublished(database_url) == 0, "all are published")
    assert Counter(queued(redis_url)) == Counter(ids * (messages + 1))
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
        ids += write_jobs(database_url, 40, size=chance.choice([1, 7, 40]))
        for pid in pair:
            time.sleep(chance.uniform(0, 0.03))
            psutil.Process(pid).kill()
            assert forge.ask(pid) == -signal.SIGKILL
    last = forge.ask("")
    wait_until(lambda: unpublished(database_url) == 0, "all are published")
    found = Counter(queued(redis_url))
    assert found.keys() == set(ids)
    print(f"50 kills, {len(ids)} jobs, {found.total() - len(ids)} published twice")  # noqa: T201
    start_worker()
    assert_done_once(database_url, len(ids))
    psutil.Process(last).kill()
    forge.ask(last)


def test_a_worker_killed_with_the_only_message(
    start_relay: StartProcess, start_worker: StartWorker, database_url: str
) -> None:
    """Celery would give it back after ten minutes; the outbox does not wait for that."""
    start_relay(PATTERN_STORAGE_RELAY_REPUBLISH_DELAY="1")
    killed = start_worker(concurrency=1)
    with locked_patterns(database_url):
        write_jobs(database_url, 1)
        wait_until(lambda: worker_connections(database_url, BLOCKED), "it is being done")
        killed.kill()
    start_worker(concurrency=1)
    assert_done_once(database_url, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_end(start_relay: StartProcess, database_url: str, number: signal.Signals) -> None:
    """Also in the middle of a long pause."""
    relay = start_relay(PATTERN_STORAGE_RELAY_POLL_INTERVAL="3600")
    wait_until(lambda: relay_connections(database_url), "it is connected")
    relay.kill(number)
    assert relay.process.wait(DEADLINE) == 0
    assert relay.text().endswith("relay: stopped\n")
    assert "Traceback" not in relay.text()


def test_without_a_database(start_process: StartProcess, redis_url: str) -> None:
    relay = start_process("pattern_storage", "relay", REDIS_URL=redis_url)
    assert relay.process.wait(DEADLINE) == 2
    assert "Error: DATABASE_URL is not set" in relay.text()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_in_a_worker(start_worker: StartWorker, client: PatternStorageClient, database_url: str, pool: str) -> None:
    variables = {"PATTERN_STORAGE_WORKER_RELAY": "true"}
    worker = start_worker(env=variables, pool=pool, options=("--max-tasks-per-child=5",))
    [relay] = wait_until(lambda: relay_connections(database_url), "it is connected")
    ids = write_jobs(database_url, 50, size=5)
    assert_done_once(database_url, 50)
    assert client.get(ids[-1]).result(DEADLINE).success
    assert relay_connections(database_url) == [relay], "one for all its processes"
    assert worker.stop() == 0
    wait_until(lambda: not relay_connections(database_url), "it has ended")
    assert "Traceback" not in worker.logs()


def test_no_relay_in_a_worker_unasked(start_worker: StartWorker, database_url: str) -> None:
    start_worker(pool="solo")
    assert relay_connections(database_url) == []
