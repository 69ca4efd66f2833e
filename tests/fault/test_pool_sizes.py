"""Pools of changing size and tasks with a rate limit: groups follow both, and each job is done once."""

from typing import Any

import psycopg
import redis
from celery import Celery

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import StartWorker, locked_patterns
from tests.fix_faults import GROUPS
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern

ALONE = ("--without-mingle", "--without-gossip")


def names(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        return [name for (name,) in connection.execute("SELECT pattern_name FROM pattern_templates")]


def test_autoscale(start_worker: StartWorker, client: PatternStorageClient, database_url: str) -> None:
    """Twice it grows while jobs wait, and shrinks when there are none."""
    worker = start_worker(options=("--autoscale=3,1", *ALONE), env={"AUTOSCALE_KEEPALIVE": "1"})
    written: list[str] = []
    for _ in range(2):
        wait_until(lambda: len(worker.children()) == 1, "it has shrunk")
        patterns = [make_pattern() for _ in range(30)]
        with locked_patterns(database_url):
            jobs = client.submit_many(contract("insert", data=one) for one in patterns)
            wait_until(lambda: len(worker.children()) == 3, "it has grown")
        assert all(job.result(DEADLINE).success for job in jobs)
        written += [one["pattern_name"] for one in patterns]
    assert sorted(names(database_url)) == sorted(written)
    assert "Traceback" not in worker.logs()


def test_rate_limit(start_worker: StartWorker, client: PatternStorageClient, redis_url: str, database_url: str) -> None:
    """Jobs beyond the limit wait in the worker; the next worker, which has none, gets them."""
    limited = start_worker(options=ALONE)
    with Celery("operator", broker=redis_url, set_as_current=False) as operator:
        there: dict[str, Any] = {"destination": [limited.hostname()], "timeout": DEADLINE, "limit": 1}
        operator.control.rate_limit("storage.insert", "1/h", reply=True, **there)
        # Fewer than the worker takes ahead.
        patterns = [make_pattern() for _ in range(10 if GROUPS else 5)]
        jobs = client.submit_many(contract("insert", data=one) for one in patterns)
        wait_until(lambda: [job.status() for job in jobs].count("SUCCESS") == 1, "the first is done")
    with redis.Redis.from_url(redis_url) as server:
        wait_until(lambda: server.llen("storage") == 0, "the worker has the others")
    assert len(names(database_url)) == 1
    assert limited.stop() == 0
    start_worker(options=ALONE)
    assert all(job.result(DEADLINE).success for job in jobs)
    assert sorted(names(database_url)) == sorted(one["pattern_name"] for one in patterns)
