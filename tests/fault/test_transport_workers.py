"""Real Celery workers of every pool on the transport. This module is their application, too."""

import os
import time
from typing import Any

import psutil
import pytest
import redis
from celery import Celery
from kombu import Queue, pools

from pattern_storage.tasks.transport.bootstep import ClaimingTransport
from tests.fix_process import ProcessGroup, StartProcess, wait_until
from tests.fix_reader import OURS, SOON, waiting
from tests.fix_servers import Store

app = Celery("transport", broker=os.environ.get("REDIS_URL"), backend="disabled", set_as_current=False)
app.conf.update(
    task_queues=[Queue("one"), Queue("two")],
    task_default_queue="one",
    task_acks_late=os.environ.get("ACKS") != "early",
    worker_prefetch_multiplier=4,
    # Where no worker is killed nothing is to come a second time, however slow the machine is.
    broker_transport_options=SOON | {"visibility_timeout": int(os.environ.get("VISIBILITY", "600"))},
    broker_connection_retry_on_startup=True,
)
app.steps["worker"].add(ClaimingTransport)


@app.task
def record(number: int, seconds: float = 0) -> None:
    time.sleep(seconds)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.rpush("done", number)


@pytest.fixture
def sender(redis_url: str) -> Celery:
    """The application on kombu's own transport, with connections that no test before has had cut."""
    pools.reset()
    return Celery("transport", broker=redis_url, backend="disabled", set_as_current=False)


@pytest.fixture
def start(start_process: StartProcess, redis_url: str) -> StartProcess:
    """Start a worker and return when it is ready."""

    def launch(pool: str, *options: str, **environment: str) -> ProcessGroup:
        group = start_process(
            "celery", "-A", __name__, "worker", "-P", pool, "-c", "2", "-l", "INFO",
            # Meeting others takes a second.
            *(options or ("--without-mingle", "--without-gossip")), REDIS_URL=redis_url, **environment,
        )  # fmt: skip
        wait_until(lambda: " ready." in group.text(), "the worker is ready")
        return group

    return launch


def send(sender: Celery, numbers: Any, seconds: float = 0, **options: Any) -> None:
    for number in numbers:
        sender.send_task(f"{__name__}.record", (number, seconds), queue=("one", "two")[number % 2], **options)


def done(store: Store) -> list[int]:
    return sorted(int(number) for number in store.lrange("done", 0, -1))


def nothing_left(store: Store) -> bool:
    return not store.exists("one", "two", "one.claimed", "two.claimed", "unacked", "unacked_index")


@pytest.mark.parametrize(
    ("pool", "acks"), [("prefork", "late"), ("prefork", "early"), ("solo", "early"), ("threads", "late")]
)
def test_every_job_is_done_once(start: StartProcess, sender: Celery, store: Store, pool: str, acks: str) -> None:
    worker = start(pool, ACKS=acks)
    send(sender, range(100))
    wait_until(lambda: len(done(store)) == 100, "all are done")
    wait_until(lambda: nothing_left(store), "all are acknowledged")
    # Two queues and four priorities.
    wait_until(lambda: waiting(store) == 2, "it waits")
    send(sender, [100, 101], countdown=1)
    send(sender, [102])
    wait_until(lambda: len(done(store)) == 103, "the delayed are done")
    assert sender.control.ping(timeout=5, limit=1)
    assert sender.control.inspect(timeout=5, limit=1).active_queues()
    wait_until(lambda: nothing_left(store), "all are acknowledged")
    assert worker.stop() == 0
    assert done(store) == list(range(103))
    assert "Traceback" not in worker.text()


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_killed_worker_loses_nothing(start: StartProcess, sender: Celery, store: Store, pool: str) -> None:
    worker = start(pool, VISIBILITY="3")
    send(sender, range(60), seconds=0.02)
    for share in (5, 25):
        wait_until(lambda share=share: len(done(store)) > share, "some are done")  # type: ignore[misc]
        worker.kill()
        worker.start()
    wait_until(lambda: set(done(store)) == set(range(60)), "all are done")
    wait_until(lambda: nothing_left(store), "all are acknowledged")


def test_a_stopping_worker_gives_back_what_it_has_not_begun(start: StartProcess, sender: Celery, store: Store) -> None:
    worker = start("prefork")
    send(sender, range(20), seconds=3)
    wait_until(lambda: store.hlen("unacked") >= 8, "it holds what it may")
    # Celery forgets jobs that a process has taken and not yet acknowledged to the main process.
    inspect = sender.control.inspect(timeout=1, limit=1)
    wait_until(lambda: [len(jobs) for jobs in (inspect.active() or {}).values()] == [2], "two have begun")
    assert store.hlen("unacked") == 8
    assert worker.stop() == 0
    kept = store.llen("one") + store.llen("two")
    assert kept + len(done(store)) == 20
    assert not store.exists("unacked", "unacked_index", "one.claimed", "two.claimed")


def test_workers_and_control_clients_find_each_other(start: StartProcess, redis_url: str, store: Store) -> None:
    first, second = start("prefork", "-n", "first@%h"), start("solo", "-n", "second@%h")
    wait_until(lambda: "sync with 1 nodes" in second.text(), "it has met the other")
    with Celery("control", broker=redis_url, backend="disabled", set_as_current=False) as control:
        control.conf.broker_transport = OURS
        # A worker that is ready subscribes to remote control a moment later.
        wait_until(lambda: len(control.control.ping(timeout=1, limit=2) or ()) == 2, "both answer")
        assert len(control.control.inspect(timeout=10, limit=2).stats() or ()) == 2
    assert not list(store.scan_iter("*.reply.celery.pidbox*"))
    assert first.stop() == second.stop() == 0


def test_a_cancelled_queue_is_left_alone(start: StartProcess, sender: Celery, store: Store) -> None:
    start("prefork")
    wait_until(lambda: waiting(store) == 2, "it waits")
    assert sender.control.cancel_consumer("two", reply=True, timeout=5, limit=1)
    wait_until(lambda: waiting(store) == 1, "it waits for the other")
    send(sender, range(10))
    wait_until(lambda: len(done(store)) == 5, "those of the other are done")
    assert store.llen("two") == 5
    assert not store.exists("two.claimed")
    assert sender.control.add_consumer("two", reply=True, timeout=5, limit=1)
    wait_until(lambda: len(done(store)) == 10, "all are done")


def test_a_process_that_replaces_another_has_none_of_the_worker_s_connections(
    start: StartProcess, sender: Celery, store: Store
) -> None:
    group = start("prefork")
    worker = psutil.Process(group.process.pid)
    wait_until(lambda: waiting(store) == 2, "it waits")
    first = worker.children()
    first[0].kill()

    def replaced() -> bool:
        return len(set(worker.children()) | set(first)) == 3

    def shared() -> set[Any]:
        mine = {one.laddr for one in worker.net_connections() if one.raddr}
        return {one.laddr for child in worker.children() for one in child.net_connections()} & mine

    wait_until(replaced, "another process has taken its place")
    wait_until(lambda: not shared(), "it has closed what it inherited")
    assert sender.control.cancel_consumer("two", reply=True, timeout=5, limit=1)
    # Celery answers before it does it, and does what it is told in one turn in any order.
    wait_until(lambda: "Canceling queue two" in group.text(), "it has stopped consuming")
    assert sender.control.add_consumer("two", reply=True, timeout=5, limit=1)
    wait_until(lambda: "Started consuming from two" in group.text(), "it consumes again")
    send(sender, range(10))
    wait_until(lambda: done(store) == list(range(10)), "all are done")
    wait_until(lambda: nothing_left(store), "all are acknowledged")
    wait_until(lambda: waiting(store) == 2, "it waits again")
