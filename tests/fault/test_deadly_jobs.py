"""Jobs that kill the process or the worker that executes them, before their effect or after it: each ends, and once."""

import time
from pathlib import Path

import pytest

from tests.fix_celery import StorageWorker
from tests.fix_faults import AT_ONCE, SAFE, SOON, STOCK, Launch, start_again
from tests.fix_load import Load
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

async def deadly(self, contract, *attempt):
    begin(contract)
    result = await execute_once(self, contract, *attempt)
    end(contract)
    return result

def deadly_group(self, contracts, *callbacks):
    for contract in contracts:
        begin(contract)
    results = execute_group(self, contracts, *callbacks)
    for contract in contracts:
        end(contract)
    return results

GroupConnection.execute = deadly_group
NodePatternStorageEffect.execute_once = deadly
"""


@pytest.fixture
def deadly(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker that dies of some jobs; start it with `--include=deadly`."""
    folder = tmp_path / "deadly"
    folder.mkdir()
    (folder / "deadly.py").write_text(DEADLY)
    return {"PYTHONPATH": str(folder), "PATTERN_STORAGE_MAX_ATTEMPTS": str(MAX_ATTEMPTS), **STOCK}


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
    load.watch_attempts()
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
    if dies == "process":
        # What it takes along, of a group or in the other process, are no attempts of these.
        assert load.counted() == {poison.correlation_id: MAX_ATTEMPTS}
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
