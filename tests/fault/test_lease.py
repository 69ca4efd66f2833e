"""Messages that a worker holds for longer than the visibility timeout: a worker that lives keeps them, and no other."""

import json
import os
import re
import signal
from contextlib import closing
from typing import Any
from uuid import UUID

import pytest
import redis
from celery import Celery

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.storage import ModelContractPatternStorage
from tests.fix_celery import BLOCKED, StorageWorker, locked_patterns, worker_connections
from tests.fix_faults import GROUPS, SAFE, STOCK, Launch, crash, needs_groups, start_again
from tests.fix_load import Load
from tests.fix_pool_claims import SLOW, sleeps
from tests.fix_process import wait_until

#: The shortest; each of the jobs below takes longer.
SHORT = {"PATTERN_STORAGE_VISIBILITY_TIMEOUT": "3"}
INDEX = UNACKED_KEYS["unacked_index_key"]


def slow(load: Load, seconds: int) -> ModelContractPatternStorage:
    job = load.insert("slow")
    job.data["usage_count"] = seconds
    return job


def deliveries(job: UUID, *workers: StorageWorker) -> int:
    """How often workers have received a job."""
    return sum(len(re.findall(rf"\[{job}\] received", worker.logs())) for worker in workers)


def held_since(store: Any) -> float:
    """The delivery time of the only message that is held."""
    [(_, delivered)] = store.zrange(INDEX, 0, -1, withscores=True)
    return float(delivered)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
@pytest.mark.parametrize("transport", [STOCK, SAFE], ids=["stock", "safe"])
def test_jobs_that_take_longer(launch: Launch, load: Load, transport: dict[str, str], pool: str) -> None:
    """One that comes alone, then some that wait for each other."""
    with load.connect() as connection:
        connection.execute(SLOW)
    workers = [launch(load.database_url, load.redis_url, env=SHORT | transport, pool=pool) for _ in range(2)]
    load.submit([slow(load, 6)])
    wait_until(lambda: sleeps(load.database_url), "it is running")
    load.submit([slow(load, 4) for _ in range(6)])
    assert load.settle().counts == {"done": 7}
    assert [deliveries(job, *workers) for job in load.accepted] == [1] * 7


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_job_that_a_worker_which_ends_waits_for(launch: Launch, load: Load, pool: str) -> None:
    with load.connect() as connection:
        connection.execute(SLOW)
    worker = launch(load.database_url, load.redis_url, env=SHORT | SAFE, pool=pool)
    load.submit([slow(load, 9)])
    wait_until(lambda: sleeps(load.database_url), "it is running")
    other = launch(load.database_url, load.redis_url, env=SHORT | SAFE)
    assert worker.stop() == 0
    assert load.settle().counts == {"done": 1}
    assert [deliveries(job, worker, other) for job in load.accepted] == [1]


def marked(store: Any) -> dict[str, bool]:
    """All messages of jobs that wait or are held: whether each is marked as redelivered."""
    entries = [json.loads(entry)[0] for entry in store.hvals(UNACKED_KEYS["unacked_key"])]
    entries += [json.loads(raw) for raw in store.lrange(QUEUES[0], 0, -1)]
    return {entry["headers"]["id"]: bool(entry["headers"].get("redelivered")) for entry in entries}


# Without groups a worker takes few jobs ahead, and Celery has it take fewer after its connection broke.
@pytest.mark.parametrize("how", ["it ends", pytest.param("its connections break", marks=needs_groups)])
def test_jobs_that_a_worker_hands_back_unbegun_are_new_to_the_next(launch: Launch, load: Load, how: str) -> None:
    """Those begin in groups, and have not failed once."""
    with load.connect() as connection:
        connection.execute(SLOW)
    worker = launch(load.database_url, load.redis_url, env=SAFE, concurrency=1)
    begun = slow(load, 5)
    load.submit([begun])
    wait_until(lambda: sleeps(load.database_url), "it is running")
    # As many as a process takes ahead without groups.
    waiting = load.inserts(10 if GROUPS else 3)
    number = len(waiting) + 1
    load.submit(waiting)
    with closing(redis.Redis.from_url(load.redis_url)) as store:
        wait_until(lambda: store.zcard(INDEX) == number, "the worker holds all")
        expected = {str(job.correlation_id): False for job in waiting}
        if how == "it ends":
            assert worker.stop() == 0
            assert marked(store) == expected
            worker = launch(load.database_url, load.redis_url, env=SAFE)
        else:
            store.client_kill_filter(_type="normal", skipme=True)
            # While it runs: a copy of it waits behind it.
            expected[str(begun.correlation_id)] = True
            wait_until(lambda: store.zcard(INDEX) == number and marked(store) == expected, "the worker holds all again")
    assert load.settle().counts == {"done": number}


def test_a_worker_in_its_soft_shutdown(launch: Launch, load: Load) -> None:
    """Its main process does nothing else then."""
    with load.connect() as connection:
        connection.execute(SLOW)
    soft = {"REMAP_SIGTERM": "SIGQUIT", "PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "15"}
    worker = launch(load.database_url, load.redis_url, env=SHORT | SAFE | soft)
    load.submit([slow(load, 12)])
    wait_until(lambda: sleeps(load.database_url), "it is running")
    os.kill(worker.pid, signal.SIGTERM)
    wait_until(lambda: "Initiating Soft Shutdown" in worker.logs(), "it ends")
    with redis.Redis.from_url(load.redis_url) as store:
        before = held_since(store)
        wait_until(lambda: held_since(store) > before + 3, "the job is renewed for as long as the timeout")
    assert sleeps(load.database_url)
    start_again(worker)
    assert load.settle().counts == {"done": 1}


@pytest.mark.parametrize("transport", [STOCK, SAFE], ids=["stock", "safe"])
def test_a_job_that_is_delayed_for_longer(launch: Launch, load: Load, transport: dict[str, str]) -> None:
    workers = [launch(load.database_url, load.redis_url, env=SHORT | transport) for _ in range(2)]
    job = load.insert()
    load.client.submit(job, delay=8)
    load.accepted[job.correlation_id] = job
    assert load.settle().counts == {"done": 1}
    assert deliveries(job.correlation_id, *workers) == 1


def test_jobs_of_a_rate_limit_that_wait_for_longer(launch: Launch, load: Load) -> None:
    worker = launch(load.database_url, load.redis_url, env=SHORT | SAFE)
    with Celery("operator", broker=load.redis_url, set_as_current=False) as operator:
        operator.control.rate_limit("storage.insert", "15/m", reply=True, destination=[worker.hostname()])
    load.submit(load.inserts(4))
    assert load.settle().counts == {"done": 4}
    assert [deliveries(job, worker) for job in load.accepted] == [1] * 4


def test_what_a_killed_worker_held_comes_back(launch: Launch, load: Load) -> None:
    """Running, waiting, delayed; though the jobs of this worker may run for minutes."""
    worker = launch(load.database_url, load.redis_url, env=SHORT | SAFE)
    with locked_patterns(load.database_url):
        load.submit([*load.inserts(4), load.batch(5)])
        delayed = load.insert()
        load.client.submit(delayed, delay=5)
        load.accepted[delayed.correlation_id] = delayed
        wait_until(lambda: len(worker_connections(load.database_url, BLOCKED)) == 2, "some jobs are running")
        wait_until(lambda: deliveries(delayed.correlation_id, worker), "it waits for its time")
        crash(worker)
    start_again(worker)
    assert load.settle().counts == {"done": 6}


def test_a_job_of_an_earlier_connection(launch: Launch, database_url: str, mortal_valkey: EmbeddedValkey) -> None:
    """It is still running when Redis is there again."""
    with closing(Load(database_url, mortal_valkey.url)) as load, load.connect() as connection:
        connection.execute(SLOW)
        worker = launch(database_url, mortal_valkey.url, env=SHORT | SAFE)
        job = slow(load, 15)
        load.submit([job])
        wait_until(lambda: load.statuses()["STARTED"], "it is running")
        connected = worker.logs().count("Connected to")
        mortal_valkey.kill()
        mortal_valkey.start()
        wait_until(lambda: worker.logs().count("Connected to") > connected, "the worker has connected again")
        with redis.Redis.from_url(mortal_valkey.url) as store:
            before = held_since(store)
            wait_until(lambda: held_since(store) > before + 3, "it is renewed for as long as the timeout")
        assert sleeps(database_url)
        assert load.settle().counts == {"done": 1}
        assert deliveries(job.correlation_id, worker) == 1
