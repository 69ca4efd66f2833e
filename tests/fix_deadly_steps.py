"""A worker that dies at a step of a group, or of a job where workers execute each alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fix_faults import AT_ONCE, GROUPS, SAFE, SOON

#: Modules for workers: the first group, or job, that comes to the step STEP kills the process that is there, or the
#: worker.
DIE = """
import os, signal
from pathlib import Path

jobs = 1

def die(step):
    if step != os.environ["STEP"]:
        return
    try:
        with (Path(__file__).parent / "died").open("x") as file:
            file.write(str(jobs))
    except FileExistsError:
        return
    if os.environ["DIES"] == "worker":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""

GROUPED = """
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pipeline import PipelineConnection
from pattern_storage.tasks.worker.group import call, child
from pattern_storage.tasks.worker.pool.pool import Pool

execute, prepare, store = GroupConnection.execute, child.Documents.prepare, child.Documents.store
send, read = PipelineConnection._send, PipelineConnection._read
on_ended = call.GroupCall.on_ended

def deadly_execute(self, contracts, *callbacks):
    global jobs
    jobs = len(contracts)
    die("before the transaction")
    results = execute(self, contracts, *callbacks)
    die("after the transaction")
    return results

def deadly_send(self, text, *values):
    if text == "COMMIT":
        # PostgreSQL has all but this.
        self._wire.flush()
        die("before the commit")
    return send(self, text, *values)

def deadly_read(self, *arguments):
    # All is sent, COMMIT too.
    die("in the transaction")
    return read(self, *arguments)

def deadly_prepare(self, written):
    prepare(self, written)
    die("with the rows, before the commit is known")

def deadly_store(self):
    die("before the results")
    store(self)
    die("after the results")

def deadly_end(self, outcomes):
    global jobs
    jobs = self._size
    die("before the acknowledgements")
    on_ended(self, outcomes)

on_partial_read = Pool.on_partial_read

def noted_partial_read(self, job, process):
    with (Path(__file__).parent / "put_back").open("a") as file:
        print(job.is_group, job._accepted, file=file)
    on_partial_read(self, job, process)

Pool.on_partial_read = noted_partial_read
GroupConnection.execute = deadly_execute
PipelineConnection._send = deadly_send
PipelineConnection._read = deadly_read
child.Documents.prepare, child.Documents.store = deadly_prepare, deadly_store
call.GroupCall.on_ended = deadly_end
"""

ALONE = """
from pattern_storage.storage import NodePatternStorageEffect, ledger
from pattern_storage.tasks.worker.request import StorageRequest
from pattern_storage.tasks.worker.result_backend import StorageRedisBackend

execute_once, limit = NodePatternStorageEffect.execute_once, NodePatternStorageEffect._limit
record, store, acknowledge = ledger.record, StorageRedisBackend._store, StorageRequest.acknowledge

async def deadly_execute(self, contract, *attempt):
    die("before the transaction")
    result = await execute_once(self, contract, *attempt)
    die("after the transaction")
    return result

async def deadly_limit(self, *arguments):
    await limit(self, *arguments)
    die("in the transaction")

async def deadly_record(*arguments):
    await record(*arguments)
    die("before the commit")

def deadly_store(self, sending, wait):
    if not any(prepared.final for prepared in sending.states):
        return store(self, sending, wait)
    die("before the results")
    lost = store(self, sending, wait)
    die("after the results")
    return lost

def deadly_acknowledge(self):
    die("before the acknowledgements")
    acknowledge(self)

NodePatternStorageEffect.execute_once, NodePatternStorageEffect._limit = deadly_execute, deadly_limit
ledger.record, StorageRedisBackend._store, StorageRequest.acknowledge = deadly_record, deadly_store, deadly_acknowledge
"""

STEPS = (
    "before the transaction",
    "before the commit",
    "in the transaction",
    *(("with the rows, before the commit is known",) if GROUPS else ()),
    "after the transaction",
    "before the results",
    "after the results",
)

#: `deadly_steps(step, dies)`: the environment of a worker whose process or whole worker dies at a step.
DeadlySteps = Callable[[str, str], dict[str, str]]


@pytest.fixture
def deadly_steps(tmp_path: Path) -> DeadlySteps:
    """The environment of a worker that dies at a step; start it with `--include=deadly`."""
    folder = tmp_path / "deadly"
    folder.mkdir()
    (folder / "deadly.py").write_text(DIE + (GROUPED if GROUPS else ALONE))

    def environment(step: str, dies: str) -> dict[str, str]:
        times = SOON if dies == "process" else AT_ONCE
        return times | SAFE | {"PYTHONPATH": str(folder), "STEP": step, "DIES": dies}

    return environment


def has_died(environment: dict[str, str]) -> bool:
    """Whether it has come to the step."""
    file = Path(environment["PYTHONPATH"]) / "died"
    # It is made before it is written.
    return file.exists() and file.read_text() != ""


def jobs_of_the_dead(environment: dict[str, str]) -> int:
    """How many jobs were executed together there."""
    return int((Path(environment["PYTHONPATH"]) / "died").read_text())
