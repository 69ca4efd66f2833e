"""A process or a worker is killed at every step of a group: no job is lost, and none is done twice."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fix_faults import AT_ONCE, SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_process import wait_until

#: A module for workers: the first group that comes to the step STEP kills the process that is there, or the worker.
DEADLY = """
import os, signal
from pathlib import Path
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pipeline import PipelineConnection
from pattern_storage.tasks.worker.group import call, child
from pattern_storage.tasks.worker.pool.pool import Pool

def die(step):
    if step != os.environ["STEP"]:
        return
    try:
        (Path(__file__).parent / "died").touch(exist_ok=False)
    except FileExistsError:
        return
    if os.environ["DIES"] == "worker":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

execute, prepare, store = GroupConnection.execute, child.Documents.prepare, child.Documents.store
send, read = PipelineConnection._send, PipelineConnection._read
on_ended = call.GroupCall.on_ended

def deadly_execute(self, contracts, *callbacks):
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

STEPS = (
    "before the transaction",
    "before the commit",
    "in the transaction",
    "with the rows, before the commit is known",
    "after the transaction",
    "before the results",
    "after the results",
)


@pytest.fixture
def deadly(tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """The environment of a worker that dies at a step; start it with `--include=deadly`."""
    folder = tmp_path / "deadly"
    folder.mkdir()
    (folder / "deadly.py").write_text(DEADLY)

    def environment(step: str, dies: str) -> dict[str, str]:
        times = SOON if dies == "process" else AT_ONCE
        return times | SAFE | {"PYTHONPATH": str(folder), "STEP": step, "DIES": dies}

    return environment


@pytest.mark.parametrize(
    ("step", "dies"),
    [*((step, dies) for step in STEPS for dies in ("process", "worker")), ("before the acknowledgements", "worker")],
)
def test_killed_at_every_step(
    launch: Launch, load: Load, deadly: Callable[[str, str], dict[str, str]], step: str, dies: str
) -> None:
    """None is lost and none is done twice, whatever had committed; jobs beside a lost process are no attempts."""
    load.submit(load.mixed(120))
    environment = deadly(step, dies)
    worker = launch(load.database_url, load.redis_url, "--include=deadly", env=environment)
    died = Path(environment["PYTHONPATH"]) / "died"
    wait_until(died.exists, f"a group comes to {step}")
    if dies == "worker":
        wait_until(lambda: worker.container.status == "exited", "the worker is dead")
        worker.container.group.restart()
    outcomes = load.settle()
    assert outcomes.counts == {"done": 120}


def test_a_group_in_the_pipe_of_a_lost_process(
    launch: Launch, load: Load, deadly: Callable[[str, str], dict[str, str]]
) -> None:
    """It had not begun: another process does it, as a group, and only the jobs of the lost one go alone."""
    load.submit(load.inserts(60))
    environment = deadly("before the transaction", "process") | {"PATTERN_STORAGE_GROUP_SIZE": "4"}
    worker = launch(load.database_url, load.redis_url, "--include=deadly", concurrency=1, env=environment)
    assert load.settle().counts == {"done": 60}
    assert re.findall(r"(\d+) jobs of a lost group", worker.logs()) == ["4"]
    # What had begun, and what had not.
    written = (Path(environment["PYTHONPATH"]) / "put_back").read_text().splitlines()
    assert sorted(written) == ["True False", "True True"]
