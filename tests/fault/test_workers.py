"""Workers and their processes are killed at any moment: nothing is lost, nothing is done twice."""

import os
import re
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
import redis

from pattern_storage.storage import ledger
from pattern_storage.storage.pool import create_pool
from tests.fix_celery import BLOCKED, IN_TRANSACTION, StorageWorker, locked_patterns, worker_connections
from tests.fix_faults import AT_ONCE, SAFE, SOON, STOCK, Launch, crash, start_again
from tests.fix_load import Load, messages
from tests.fix_process import DEADLINE, wait_until

MAX_ATTEMPTS = 3

#: A module for workers: jobs kill the process, or the whole worker, that does them. `early` ones before their effect,
#: every time; `late` ones when it is committed and nobody knows yet, the first time; `always late` ones each time.
#: `stuck` ones stop the event loop, so that no soft limit can end them.
DEADLY = """
import os, signal, time
from pathlib import Path
from pattern_storage.storage import NodePatternStorageEffect
from pattern_storage.storage.group import GroupConnection

execute_once = NodePatternStorageEffect.execute_once
execute_group = GroupConnection.execute

def die():
    if os.environ["DEADLY"] == "worker":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

def begin(contract):
    name = contract.data.get("pattern_name", "")
    if name.startswith("stuck"):
        time.sleep(3600)
    if name.startswith("early"):
        die()

def end(contract):
    name = contract.data.get("pattern_name", "")
    if name.startswith("late"):
        try:
            (Path(__file__).parent / str(contract.correlation_id)).touch(exist_ok=False)
        except FileExistsError:
            return
        die()
    if name.startswith("always late"):
        die()

async def deadly(self, contract):
    begin(contract)
    result = await execute_once(self, contract)
    end(contract)
    return result

def deadly_group(self, contracts, on_written):
    for contract in contracts:
        begin(contract)
    results = execute_group(self, contracts, on_written)
    for contract in contracts:
        end(contract)
    return results

GroupConnection.execute = deadly_group
NodePatternStorageEffect.execute_once = deadly
"""


def living(worker: StorageWorker) -> list[int]:
    """The processes of the pool that are not dead already."""
    found = []
    for child in psutil.Process(worker.pid).children():
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
    return found


@pytest.fixture
def deadly(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker that dies of some jobs; start it with `--include=deadly`."""
    folder = tmp_path / "deadly"
    folder.mkdir()
    (folder / "deadly.py").write_text(DEADLY)
    return {"PYTHONPATH": str(folder), "PATTERN_STORAGE_MAX_ATTEMPTS": str(MAX_ATTEMPTS), **STOCK}


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


def kill_workers_until_dead_letter(worker: StorageWorker, load: Load, others: int) -> int:
    """Start the worker again whenever it dies, with more to do each time, until a job is a dead letter."""
    deaths = 0
    deadline = time.monotonic() + DEADLINE
    while not load.count("dead_letters"):
        assert time.monotonic() < deadline, f"no dead letter after {deaths} deaths"
        if worker.container.status == "exited":
            deaths += 1
            load.submit(load.mixed(others))
            # It may be dead again before it can say that it is ready.
            worker.container.group.restart()
    return deaths


@pytest.mark.parametrize("dies", ["process", "worker"])
def test_a_job_that_always_kills(launch: Launch, load: Load, deadly: dict[str, str], dies: str) -> None:
    """It becomes a dead letter, by attempts that PostgreSQL has counted, and other jobs go on."""
    times = SOON if dies == "process" else AT_ONCE
    worker = launch(load.database_url, load.redis_url, "--include=deadly", env=times | deadly | {"DEADLY": dies} | SAFE)
    poison = load.insert("early")
    load.submit([poison])
    if dies == "process":
        load.submit(load.mixed(30))
        wait_until(lambda: load.count("dead_letters"), "it is a dead letter")
    else:
        deaths = kill_workers_until_dead_letter(worker, load, others=5)
        assert deaths == MAX_ATTEMPTS
    outcomes = load.settle()
    assert outcomes.counts == {"dead letter": 1, "done": len(load.accepted) - 1}
    result = load.client.get(poison.correlation_id).result(DEADLINE)
    assert result.metadata["error_type"] == "worker_lost"
    assert (result.metadata["dead_letter"], result.metadata["attempts"]) == (True, MAX_ATTEMPTS)
    with load.connect() as connection:
        (letter,) = connection.execute("SELECT * FROM dead_letters").fetchall()
    assert (letter["error_type"], letter["attempts"]) == ("worker_lost", MAX_ATTEMPTS)
    assert letter["contract"]["data"]["pattern_name"] == poison.data["pattern_name"]


@pytest.mark.parametrize("dies", ["process", "worker"])
def test_killed_between_commit_and_answer(launch: Launch, load: Load, deadly: dict[str, str], dies: str) -> None:
    """The effect is committed and the message not acknowledged: it comes again and gets the first answer."""
    times = SOON if dies == "process" else AT_ONCE
    worker = launch(load.database_url, load.redis_url, "--include=deadly", env=times | deadly | {"DEADLY": dies} | SAFE)
    late = [load.insert("late") for _ in range(8 if dies == "process" else 3)]
    for one in late:
        load.submit([one])
        if dies == "worker":
            wait_until(lambda: worker.container.status == "exited", "the worker dies of it")
            start_again(worker)
    outcomes = load.settle()
    assert (outcomes.counts["done"], outcomes.replayed) == (len(late), len(late))


def test_a_job_that_is_done_never_becomes_a_dead_letter(launch: Launch, load: Load, deadly: dict[str, str]) -> None:
    """Even if whoever would say so dies each time."""
    launch(load.database_url, load.redis_url, "--include=deadly", env=SOON | deadly | {"DEADLY": "process"})
    load.submit([load.insert("always late"), load.insert()])
    outcomes = load.settle()
    assert outcomes.counts == {"done": 2}


def test_a_job_that_only_the_hard_limit_ends(launch: Launch, load: Load, deadly: dict[str, str]) -> None:
    """It is settled in the ledger: from the outbox it would come again and again, each time as if it were the first."""
    launch(load.database_url, load.redis_url, "--include=deadly", env=AT_ONCE | deadly | {"DEADLY": "process"} | SAFE)
    stuck = load.insert("stuck")
    load.submit([stuck, load.insert()])
    load.wait_done(2)
    outcomes = load.settle()
    assert outcomes.counts == {"failed": 1, "done": 1}
    assert outcomes.error_types["time_limit_exceeded"] == 1
    with load.connect() as connection:
        entered = connection.execute("SELECT result FROM job_ledger WHERE correlation_id = %s", [stuck.correlation_id])
        assert entered.fetchall()[0]["result"]["metadata"]["error_type"] == "time_limit_exceeded"


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
