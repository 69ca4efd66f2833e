"""Workers and their processes are killed at any moment: nothing is lost, nothing is done twice."""

import os
import re
import signal
from contextlib import suppress
from functools import partial

import psutil
import pytest
import redis

from pattern_storage.storage import ledger
from pattern_storage.storage.pool import create_pool
from tests.fix_celery import BLOCKED, IN_TRANSACTION, StorageWorker, locked_patterns, worker_connections
from tests.fix_faults import SAFE, SOON, STOCK, Launch, crash, start_again
from tests.fix_invariant import messages
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until


def living(worker: StorageWorker) -> list[int]:
    """The processes of the pool that are not dead already."""
    found = []
    for child in psutil.Process(worker.pid).children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
    return found


@pytest.mark.parametrize("transport", [STOCK, SAFE], ids=["stock", "safe"])
def test_processes_killed_under_load(launch: Launch, load: Load, transport: dict[str, str]) -> None:
    """A child of the pool dies, whatever it is doing; its job begins again, and all others go on."""
    worker = launch(load.database_url, load.redis_url, env=SOON | transport)
    load.submit(load.mixed(800))
    for kill in range(12):
        load.wait_done(50 * kill + load.chance.randint(1, 50))
        # Celery may need five seconds to see that the last one is dead.
        victim = load.chance.choice(wait_until(lambda: living(worker), "a process lives"))
        os.kill(victim, signal.SIGKILL)
    outcomes = load.settle()
    assert outcomes.counts["done"] == 800
    assert "WorkerLostError" in worker.logs()


def test_workers_killed_under_load(launch: Launch, load: Load) -> None:
    """All of a worker dies at once, ten times, beside one that lives; with kombu's transport jobs would be lost."""
    worker = launch(load.database_url, load.redis_url, env=SOON | SAFE)
    load.submit(load.mixed(900))
    for kill in range(12):
        load.wait_done(50 * kill + load.chance.randint(1, 50))
        crash(worker)
        start_again(worker)
    outcomes = load.settle()
    assert outcomes.counts["done"] == 900


def test_killed_in_mid_transaction(launch: Launch, load: Load) -> None:
    """Each process dies while its job waits inside its transaction, five times over."""
    worker = launch(load.database_url, load.redis_url, env=SOON | STOCK)
    for _ in range(5):
        with locked_patterns(load.database_url):
            load.submit([load.insert(), load.batch(5)])
            wait_until(lambda: len(worker_connections(load.database_url, BLOCKED)) == 2, "both jobs wait")
            for child in worker.children():
                os.kill(child, signal.SIGKILL)
        wait_until(lambda: not worker_connections(load.database_url, IN_TRANSACTION), "no transaction is left")
    outcomes = load.settle()
    assert outcomes.counts["done"] == 10


def has_said(worker: StorageWorker, words: "re.Pattern[str]", times: int) -> bool:
    return len(words.findall(worker.logs())) == times


def test_two_workers_get_the_same_message(launch: Launch, load: Load) -> None:
    """Each of 200 messages goes to both workers, in the same order: one effect, and the same answer twice."""
    load.submit(load.inserts(200))
    with redis.Redis.from_url(load.redis_url) as store:
        store.copy("storage", "batch")
        assert messages(store) | {"storage": 200, "batch": 200} == messages(store)
    # The first jobs are held until the second worker has begun, however long a busy machine takes to start it.
    patient = {
        "PATTERN_STORAGE_LOCK_TIMEOUT": "55", "PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "60",
        "PATTERN_STORAGE_TASK_TIME_LIMIT": "70", "PATTERN_STORAGE_VISIBILITY_TIMEOUT": "80",
    }  # fmt: skip
    with locked_patterns(load.database_url):
        workers = [
            launch(load.database_url, load.redis_url, queues=[queue], concurrency=4, env=SOON | STOCK | patient)
            for queue in ("storage", "batch")
        ]
        wait_until(lambda: len(worker_connections(load.database_url, BLOCKED)) == 8, "both have begun")
    outcomes = load.settle()
    assert outcomes.counts["done"] == 200
    said = re.compile(
        r"\[([0-9a-f-]{36})\] succeeded in [\d.]+s: \{'success': True, 'data': (\{'pattern_id': '[0-9a-f-]{36})"
    )
    answers = []
    for worker in workers:
        wait_until(partial(has_said, worker, said, 200), "it has answered")
        answers.append(dict(said.findall(worker.logs())))
    assert answers[0] == answers[1]
    assert len(answers[0]) == 200


async def test_cancelled_before_a_worker_comes(launch: Launch, load: Load) -> None:
    """Cancelled jobs end as REVOKED and write nothing; one that was done cannot be cancelled any more."""
    cancelled = load.mixed(20)
    load.submit(cancelled)
    async with create_pool(load.database_url) as pool, pool.connection() as connection:
        for one in cancelled:
            answer = await ledger.cancel(connection, one.correlation_id)
            assert answer.metadata["error_type"] == "revoked"
        launch(load.database_url, load.redis_url, env=SOON | STOCK)
        late = load.insert()
        load.submit([late])
        outcomes = load.settle()
        assert (outcomes.counts["failed"], outcomes.counts["done"]) == (20, 1)
        for one in cancelled:
            job = load.client.get(one.correlation_id)
            assert (job.status(), job.result(DEADLINE).metadata["error_type"]) == ("REVOKED", "revoked")
        answer = await ledger.cancel(connection, late.correlation_id)
        assert (answer.success, answer.data["pattern_name"]) == (True, late.data["pattern_name"])
        assert load.client.get(late.correlation_id).status() == "SUCCESS"
    assert load.count("pattern_templates") == load.count("job_ledger") - 20 + sum(
        one.operation in ("update", "delete") for one in cancelled
    )
