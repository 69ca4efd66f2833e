"""The pool when a connection ends, with a group that waits in the pipe of a busy process."""

import subprocess
import sys

import pytest

#: One process has a group and the next one in its pipe; then the pool is flushed, and gets two more.
PROGRAM = """
import os, signal, sys, time
from celery.concurrency import asynpool
from kombu.asynchronous import Hub, set_event_loop
from kombu.asynchronous.semaphore import LaxBoundedSemaphore
from pattern_storage.tasks.worker.group import child
from pattern_storage.tasks.worker.pool.pool import SHORT, Pool
from pattern_storage.tasks.worker.pool.process import PoolProcess

def run_group(jobs):
    time.sleep(jobs[0])
    return []

child.run_group, PoolProcess.hostname = run_group, "test"
hub = Hub()
set_event_loop(hub)
pool = Pool(processes=1, threads=False, synack=False, lost_worker_timeout=1, putlocks=False,
            semaphore=LaxBoundedSemaphore(1), sched_strategy=asynpool.SCHED_STRATEGY_FAIR)
pool.register_with_event_loop(hub)
hub.timer.call_repeatedly(0.05, lambda: None)
loop, said = hub.create_loop(), []

def iterate_until(*words):
    deadline = time.monotonic() + 30
    while not set(words) <= set(said):
        assert time.monotonic() < deadline, (words, said)
        next(loop)

def apply(name, seconds):
    pool.apply_async(run_group, args=([seconds],), callback=lambda _: said.append(name + " ended"),
                     error_callback=lambda _: said.append(name + " lost"),
                     accept_callback=lambda *_: said.append(name + " began"))

apply("first", 1 if sys.argv[1] == "lives" else 60)
iterate_until("first began")
apply("ahead", 0)
assert any(call._write_to is not None and not call._accepted for call in pool._cache.values())
if sys.argv[1] == "dies":
    os.kill(pool._pool[0].pid, signal.SIGKILL)
    while pool._pool[0]._is_alive():
        time.sleep(0.01)
pool.flush()
iterate_until(*(["first ended", "ahead ended"] if sys.argv[1] == "lives" else ["first lost"]))
# Later than a call would be written behind another.
time.sleep(2 * SHORT)
for name in ("next", "last"):
    apply(name, 0)
    iterate_until(name + " ended")
assert ("ahead ended" in said) == (sys.argv[1] == "lives")
os.kill(pool._pool[0].pid, signal.SIGKILL)
os._exit(0)
"""


@pytest.mark.parametrize("process", ["lives", "dies"])
def test_a_call_that_was_written_ahead(process: str) -> None:
    """It ends as any other; if its process is dead it is forgotten, and in the way of none that follow."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, process], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
