"""Redis is killed and comes back: what it has accepted is done once, and nobody hangs while it is away."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import redis

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.tasks.client import BrokerUnavailable, ResultBackendUnavailable
from tests.fix_celery import BLOCKED, locked_patterns, worker_connections
from tests.fix_faults import SAFE, SOON, Launch
from tests.fix_invariant import messages
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until

PATIENT = SOON | SAFE | {"PATTERN_STORAGE_MAX_ATTEMPTS": "20"}


@pytest.fixture
def mortal_redis_load(database_url: str, mortal_valkey: EmbeddedValkey) -> Iterator[Load]:
    with closing(Load(database_url, mortal_valkey.url, connect_timeout=1.0)) as opened:
        yield opened


def in_time(call: Callable[[], Any]) -> None:
    """Make the call in a thread of its own; a call that hangs fails instead of stopping the tests."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive(), "the call hangs"
    if raised:
        raise raised[0]


def test_killed_under_load(launch: Launch, mortal_redis_load: Load, mortal_valkey: EmbeddedValkey) -> None:
    """Six times, with a worker in the middle of its work, and calls of the client while it is away."""
    load = mortal_redis_load
    launch(load.database_url, load.redis_url, env=PATIENT)
    for _ in range(6):
        done = load.count("job_ledger")
        load.submit(load.mixed(80))
        load.wait_done(done + load.chance.randint(5, 60))
        mortal_valkey.kill()
        one = load.insert()
        with pytest.raises(BrokerUnavailable):
            in_time(partial(load.submit, [one]))
        job = load.client.get(next(iter(load.accepted)))
        with pytest.raises(ResultBackendUnavailable):
            in_time(job.status)
        with pytest.raises(ResultBackendUnavailable):
            in_time(partial(job.result, 5.0))
        mortal_valkey.start()
        assert mortal_valkey.url == load.redis_url
    outcomes = load.settle()
    assert outcomes.counts["done"] + outcomes.counts["never accepted"] == 486
    assert len(load.in_doubt) == 6


def test_what_was_accepted_outlives_a_crash(mortal_redis_load: Load, mortal_valkey: EmbeddedValkey) -> None:
    """Ten crashes, each right behind an accepted job: all of them are in the queue."""
    load = mortal_redis_load
    for _ in range(10):
        with redis.Redis.from_url(load.redis_url) as store:
            # With everysec it answers before it writes while an earlier fsync takes long, as on a busy machine.
            store.config_set("appendfsync", "always")
        for one in load.inserts(20):
            load.submit([one])
        load.submit(load.inserts(500))
        mortal_valkey.kill()
        mortal_valkey.start()
        with redis.Redis.from_url(load.redis_url) as store:
            assert messages(store)["storage"] == len(load.accepted)


def test_a_worker_whose_queue_has_gone_can_be_stopped(
    launch: Launch, mortal_redis_load: Load, mortal_valkey: EmbeddedValkey
) -> None:
    """Celery's own heartbeat would go on trying for ever, beginning while the pool ends its last job."""
    load = mortal_redis_load
    soft = {"REMAP_SIGTERM": "SIGQUIT", "PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "4"}
    worker = launch(load.database_url, load.redis_url, env=PATIENT | soft)
    with locked_patterns(load.database_url):
        load.submit(load.inserts(1))
        wait_until(lambda: worker_connections(load.database_url, BLOCKED), "a job is being done")
        mortal_valkey.kill()
        assert worker.container.group.stop() != -signal.SIGKILL, "it had to be killed"
