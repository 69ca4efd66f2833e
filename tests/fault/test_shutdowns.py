"""Warm, soft and cold shutdown while a group runs: nothing is lost, done twice, or an attempt that did not begin."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import pytest
import redis

from tests.fix_faults import GROUPS, SAFE, SOON, Launch, needs_groups, start_again
from tests.fix_invariant import messages
from tests.fix_load import Load
from tests.fix_pool_claims import SLOW, sleeps
from tests.fix_process import wait_until

SIZE = 6
#: No job passes a limit, and no message comes back because its time is over.
PATIENT = SOON | SAFE | {
    "PATTERN_STORAGE_GROUP_SIZE": str(SIZE),
    "PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "30",
    "PATTERN_STORAGE_TASK_TIME_LIMIT": "40",
    "PATTERN_STORAGE_VISIBILITY_TIMEOUT": "60",
}  # fmt: skip
WAYS = {
    "warm": {},
    "soft": {"REMAP_SIGTERM": "SIGQUIT", "PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "15"},
    "cold": {"REMAP_SIGTERM": "SIGQUIT", "PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "0"},
}


@pytest.mark.parametrize(
    # Where jobs are executed one by one, those that threads had not begun are counted when they come again.
    ("way", "pool"),
    [
        *((way, "prefork") for way in WAYS),
        *(pytest.param(way, "threads", marks=needs_groups) for way in WAYS),
    ],
)
def test_shutdown(launch: Launch, load: Load, way: str, pool: str) -> None:
    """What has begun ends, unless the worker may not wait; all else is in the queue at once."""
    load.watch_attempts()
    with load.connect() as connection:
        connection.execute(SLOW)
    slow = load.insert("slow")
    slow.data["usage_count"] = 10 if way == "cold" else 3
    jobs = [slow, *load.inserts(3 * SIZE - 1)]
    ids = [job.correlation_id for job in jobs]
    load.submit(jobs)
    worker = launch(load.database_url, load.redis_url, concurrency=1, pool=pool, env=PATIENT | WAYS[way])
    wait_until(lambda: sleeps(load.database_url), "the first ones run")
    assert worker.stop() == 0
    assert "Traceback" not in worker.logs()
    assert (pool == "threads" and way == "cold") == ("goes on to its end" in worker.logs())
    with redis.Redis.from_url(load.redis_url) as store, load.connect() as connection:
        waiting = {UUID(json.loads(raw)["headers"]["id"]) for raw in store.lrange("storage", 0, -1)}
        assert sum(messages(store).values()) == len(waiting)
        ended = {row["correlation_id"] for row in connection.execute("SELECT correlation_id FROM job_ledger")}
    assert ended | waiting == set(ids)
    if way == "cold" and pool == "prefork":
        assert ended == set()
    else:
        # Nobody can end a thread: a cold shutdown waits for what has begun.
        assert ended >= begun(ids)
        # Nobody replays what has ended, also that of the group that waited in the process' pipe.
        assert not waiting & ended
    start_again(worker)
    assert load.settle(30.0).counts == {"done": len(jobs)}
    # Of a group in the pipe of a process that is killed nobody can tell whether that has begun with it.
    assert load.counted().keys() <= set(ids[: 2 * SIZE if GROUPS else 1] if way == "cold" else ())


def begun(ids: list[UUID]) -> set[UUID]:
    """The jobs of the group that is running, or the job."""
    return set(ids[: SIZE if GROUPS else 1])


@needs_groups
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("seconds", "handed_back"), [(3, 0), (100, 1)])
def test_a_job_that_begins_as_the_worker_ends(
    launch: Launch, load: Load, seconds: int, processes: int, handed_back: int
) -> None:
    """It has its time in a soft shutdown, and no more, though the main process has not read yet that it has begun."""
    with load.connect() as connection:
        connection.execute(SLOW)
    limits = {"PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "110", "PATTERN_STORAGE_TASK_TIME_LIMIT": "120"}
    soft = WAYS["soft"] | {"PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "6"}
    # Where this is limited, the main process takes each job.
    worker = launch(
        load.database_url, load.redis_url, f"--max-memory-per-child={1 << 30}", concurrency=processes,
        env=PATIENT | limits | soft,
    )  # fmt: skip
    load.submit(load.inserts(1))
    slow = load.insert("slow")
    slow.data["usage_count"] = seconds
    with redis.Redis.from_url(load.redis_url) as store:
        # A process that has just been forked is given nothing.
        wait_until(
            lambda: load.count("job_ledger") == 1 and not any(messages(store).values()), "its processes are free"
        )
        with ExitStack() as stack:
            for process in worker.children():
                stack.enter_context(stopped(process))
            load.submit([slow])
            wait_until(lambda: messages(store)["unacked"], "the worker has it")
            # Until it is in the pipe, of which nothing can be seen.
            time.sleep(1)
            main = ExitStack()
            main.enter_context(stopped(worker.pid))
        with main:
            wait_until(lambda: sleeps(load.database_url), "it is running")
            os.kill(worker.pid, signal.SIGTERM)
        wait_until(lambda: worker.container.status == "exited", "it has ended")
        assert "Initiating Soft Shutdown" in worker.logs()
        assert sum(messages(store).values()) == handed_back
    assert load.count("job_ledger") == 2 - handed_back


#: A module for workers, which are told to end in the midst of the first report that they read when INTERRUPT exists.
INTERRUPTED = """
import os, signal
from pathlib import Path
from celery.concurrency import asynpool

receive = asynpool.ResultHandler._recv_message

def interrupted(self, *arguments):
    if Path(os.environ["INTERRUPT"]).exists():
        Path(os.environ["INTERRUPT"]).unlink()
        os.kill(os.getpid(), signal.SIGTERM)
    return (yield from receive(self, *arguments))

asynpool.ResultHandler._recv_message = interrupted
"""


@needs_groups
def test_a_signal_in_the_midst_of_a_report(launch: Launch, load: Load, tmp_path: Path) -> None:
    """The job of which nobody can know that it has begun is delivered again, and the worker does not wait for it."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    interrupt = tmp_path / "interrupt"
    with load.connect() as connection:
        connection.execute(SLOW)
    limits = {"PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "110", "PATTERN_STORAGE_TASK_TIME_LIMIT": "120"}
    soft = WAYS["soft"] | {"PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "2"}
    told = {"PYTHONPATH": str(tmp_path), "INTERRUPT": str(interrupt)}
    # Where this is limited, the main process takes each job.
    worker = launch(
        load.database_url, load.redis_url, f"--max-memory-per-child={1 << 30}", "--include=interrupted", concurrency=1,
        env=PATIENT | limits | soft | told,
    )  # fmt: skip
    load.submit(load.inserts(1))
    wait_until(lambda: load.count("job_ledger") == 1, "the first one is done")
    slow = load.insert("slow")
    slow.data["usage_count"] = 100
    interrupt.touch()
    load.submit([slow])
    wait_until(lambda: worker.container.status == "exited", "it has ended")
    with redis.Redis.from_url(load.redis_url) as store:
        assert sum(messages(store).values()) == 1
    assert load.count("job_ledger") == 1


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing meanwhile, and then goes on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
