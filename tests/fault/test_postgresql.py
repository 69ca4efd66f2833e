"""PostgreSQL crashes and comes back: jobs wait with a reason, and then each is done once."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from pattern_storage.embedded import EmbeddedPostgres
from tests.fix_faults import SOON, STOCK, Launch
from tests.fix_load import Load
from tests.fix_process import wait_until

UNAVAILABLE = {"connection_lost", "server_unavailable", "pool_timeout"}


@pytest.fixture
def mortal_load(mortal_database: str, redis_url: str) -> Iterator[Load]:
    with closing(Load(mortal_database, redis_url)) as opened:
        yield opened


def end(server: EmbeddedPostgres, how: str) -> None:
    """Crash it, or stop it at once without a goodbye to anyone."""
    if how == "crash":
        server.kill()
    else:
        assert server.pid
        os.kill(server.pid, signal.SIGQUIT)
        wait_until(lambda: not server.running, "PostgreSQL has ended")


def reasons(load: Load) -> list[str]:
    """Why jobs wait for their next attempt."""
    found = []
    with redis.Redis.from_url(load.redis_url) as store:
        for value in store.mget([f"celery-task-meta-{job}" for job in load.accepted]):
            meta: dict[str, Any] = json.loads(value or "{}")
            if meta.get("status") == "RETRY":
                found.append(meta["result"]["exc_message"][0]["metadata"]["error_type"])
    return found


def test_crashes_under_load(launch: Launch, mortal_load: Load, mortal_postgres: EmbeddedPostgres) -> None:
    """Six times, three of each kind; what was confirmed is still there."""
    load = mortal_load
    launch(load.database_url, load.redis_url, env=SOON | STOCK | {"PATTERN_STORAGE_MAX_ATTEMPTS": "10"})
    done, seen = 0, set()
    for how in ("crash", "shutdown") * 3:
        load.submit(load.mixed(80))
        load.wait_done(done + load.chance.randint(5, 60))
        end(mortal_postgres, how)
        seen |= set(wait_until(lambda: reasons(load), "a job says why it waits"))
        mortal_postgres.start()
        done = load.count("job_ledger")
    outcomes = load.settle()
    assert outcomes.counts["done"] == 480
    assert seen <= UNAVAILABLE, seen


def test_away_for_longer_than_all_attempts(
    launch: Launch, mortal_load: Load, mortal_postgres: EmbeddedPostgres
) -> None:
    """Nobody counts attempts while PostgreSQL is away, so nothing is given up."""
    load = mortal_load
    impatient = {"PATTERN_STORAGE_MAX_ATTEMPTS": "2", "PATTERN_STORAGE_POOL_TIMEOUT": "0.2"}
    worker = launch(load.database_url, load.redis_url, env=SOON | STOCK | impatient)
    jobs = load.mixed(8)
    mortal_postgres.kill()
    load.submit(jobs)

    def tried(times: int) -> bool:
        log = worker.logs()
        return all(log.count(f"[{job}] retry: Retry in") >= times for job in load.accepted)

    wait_until(lambda: tried(4), "each job has been tried four times")
    assert set(load.statuses()) <= {"RETRY", "STARTED"}
    mortal_postgres.start()
    outcomes = load.settle()
    assert outcomes.counts == {"done": 8}
    assert load.count("dead_letters") == 0
