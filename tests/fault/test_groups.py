"""Groups: killed at every step, and with every kind of job that must not spoil its neighbours."""

import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from celery import Celery

from tests.fix_celery import BLOCKED, locked_patterns, worker_connections
from tests.fix_faults import AT_ONCE, SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern

#: A module for workers: the first group that comes to the step STEP kills the process that is there, or the worker.
DEADLY = """
import os, signal
from pathlib import Path
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pipeline import PipelineConnection
from pattern_storage.tasks.worker.group import call, child, pool_process

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
on_ended = call.GroupCall._on_ended

def deadly_execute(self, contracts, on_written):
    die("before the transaction")
    results = execute(self, contracts, on_written)
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

on_partial_read = pool_process.Pool.on_partial_read

def noted_partial_read(self, job, process):
    with (Path(__file__).parent / "put_back").open("a") as file:
        print(job.is_group, job._accepted, file=file)
    on_partial_read(self, job, process)

pool_process.Pool.on_partial_read = noted_partial_read
GroupConnection.execute = deadly_execute
PipelineConnection._send = deadly_send
PipelineConnection._read = deadly_read
child.Documents.prepare, child.Documents.store = deadly_prepare, deadly_store
call.GroupCall._on_ended = deadly_end
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


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_one_bad_job_of_each_kind(launch: Launch, load: Load, pool: str) -> None:
    """Every job has its own outcome: the good ones, a duplicate, a bad value, a missing pattern, a missing parent."""
    good = load.inserts(10)
    twice = contract("insert", data=good[0].data | {"source": "twice"})
    missing = contract("update", pattern_id=uuid4(), data={"usage_count": 1})
    bad = contract("insert", data=make_pattern(source="bad"))
    bad.data["confidence_score"] = 7
    orphan = contract("insert", data=make_pattern(parent_pattern_id=str(uuid4()), source="orphan"))
    with pytest.raises(ValueError, match="confidence_score"):
        load.client.submit(bad)
    load.client.submit(missing)
    load.submit([*good, twice, orphan])
    launch(load.database_url, load.redis_url, concurrency=1, pool=pool, env=SOON | SAFE)
    outcomes = load.settle()
    assert outcomes.counts == {"done": 10, "failed": 2}
    kinds = {one.correlation_id: load.client.get(one.correlation_id).result(DEADLINE).metadata["error_type"]
             for one in (twice, missing, orphan)}  # fmt: skip
    assert list(kinds.values()) == ["unique_violation", "validation_error", "foreign_key_violation"]


def test_one_locked_row_does_not_hold_the_others(launch: Launch, load: Load) -> None:
    """The group gives up the row that somebody else has locked; all others are done while that one waits."""
    jobs = load.mixed(40)
    update = next(one for one in jobs if one.operation == "update")
    with psycopg.connect(load.database_url) as holder:
        holder.execute("SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", [update.pattern_id])
        load.submit(jobs)
        launch(load.database_url, load.redis_url, concurrency=2, env=SOON | SAFE)
        load.wait_done(39)
    assert load.settle().counts == {"done": 40}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_cancelled_and_reused_ids(launch: Launch, load: Load, pool: str) -> None:
    """A job that was cancelled is REVOKED, one that comes twice is done once, an id with another request a conflict."""
    jobs = load.inserts(20)
    load.submit(jobs)
    for one in jobs[:3]:
        with load.connect() as connection:
            connection.execute(
                "INSERT INTO job_ledger (correlation_id, result) VALUES (%s, %s)",
                [one.correlation_id, REVOKED.replace("ID", str(one.correlation_id))],
            )
    load.client.submit_many(jobs[5:8])
    launch(load.database_url, load.redis_url, concurrency=1, pool=pool, env=SOON | SAFE)
    outcomes = load.settle()
    assert outcomes.counts == {"done": 17, "failed": 3}
    assert outcomes.error_types["revoked"] == 3


REVOKED = (
    '{"success": false, "data": null, "error": "The job was cancelled before it was done",'
    ' "metadata": {"correlation_id": "ID", "operation": null, "duration_ms": 0.0, "error_type": "revoked"}}'
)


def test_updates_and_deletes_of_one_pattern_keep_queue_order(launch: Launch, load: Load) -> None:
    """The last of ten updates in a queue wins; a delete behind them finds the pattern."""
    (row,) = load._seed({str(uuid4()): "update"}).values()
    order = [contract("update", pattern_id=row, data={"usage_count": number}) for number in range(1, 11)]
    other = [contract("insert", data=make_pattern()) for _ in range(10)]
    load.client.submit_many([one for pair in zip(order, other, strict=True) for one in pair])
    launch(load.database_url, load.redis_url, concurrency=1, env=SOON | SAFE)
    last = load.client.get(order[-1].correlation_id).result(DEADLINE)
    assert last.success
    with load.connect() as connection:
        found = connection.execute("SELECT usage_count FROM pattern_templates WHERE id = %s", [row]).fetchall()
    assert found == [{"usage_count": 10}]


def test_a_revoked_job_of_a_group_ends_alone(launch: Launch, load: Load) -> None:
    """`revoke(terminate=True)` kills the process that has the group; its other jobs are done all the same."""
    jobs = load.inserts(12)
    with locked_patterns(load.database_url):
        load.submit(jobs)
        worker = launch(load.database_url, load.redis_url, concurrency=1, env=SOON | SAFE)
        wait_until(lambda: worker_connections(load.database_url, BLOCKED), "a job waits for the table")
        victim = running_job(load)
        with Celery("operator", broker=load.redis_url, set_as_current=False) as operator:
            operator.control.revoke(str(victim), terminate=True, destination=[worker.hostname()])
        wait_until(lambda: load.client.get(victim).status() == "REVOKED", "it says so")
    wait_until(lambda: load.count("job_ledger") >= 11, "all others are done")
    statuses = load.statuses()
    assert statuses["SUCCESS"] >= 11


def test_a_revoked_group_in_the_pipe_of_a_lost_process(launch: Launch, load: Load) -> None:
    """The only slot of the pool is free again, though two calls ended with one process."""
    jobs = load.inserts(40)
    with locked_patterns(load.database_url):
        load.submit(jobs)
        # Some forty of twos: one has begun, the next is in the pipe.
        environment = SOON | SAFE | {"PATTERN_STORAGE_GROUP_SIZE": "2"}
        worker = launch(load.database_url, load.redis_url, concurrency=1, env=environment)
        wait_until(lambda: worker_connections(load.database_url, BLOCKED), "a job waits for the table")
        first = [str(one.correlation_id) for one in jobs[:4]]
        with Celery("operator", broker=load.redis_url, set_as_current=False) as operator:
            for victims in (first[2:], first[:2]):
                operator.control.revoke(victims, terminate=True, destination=[worker.hostname()])
        wait_until(lambda: load.client.get(first[0]).status() == "REVOKED", "it says so")
    wait_until(lambda: load.count("job_ledger") >= 36, "all others are done")


def running_job(load: Load) -> UUID:
    """Return the job that says that it is running."""
    found: list[UUID] = []

    def look() -> bool:
        found[:] = [job for job in load.accepted if load.client.get(job).status() == "STARTED"]
        return bool(found)

    wait_until(look, "a job has begun")
    return found[0]


def test_max_tasks_per_child_counts_jobs(launch: Launch, load: Load) -> None:
    """A process is replaced after so many jobs, not after so many groups."""
    load.submit(load.inserts(200))
    worker = launch(load.database_url, load.redis_url, "--max-tasks-per-child", "40", concurrency=1, env=SOON | SAFE)
    seen: set[int] = set()

    def replaced() -> bool:
        seen.update(worker.children())
        return len(seen) >= 4

    wait_until(replaced, "three processes have been replaced")
    assert load.settle().counts == {"done": 200}
