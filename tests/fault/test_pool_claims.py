"""Jobs that a pool process claims itself: killed at every step, slow, revoked, and without their connection."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery
from kombu import pools

from pattern_storage.config.broker import UNACKED_KEYS
from tests.fix_faults import AT_ONCE, SOON, Launch, start_again
from tests.fix_load import Load
from tests.fix_pool_claims import Claims, begin_slow, sleeps
from tests.fix_process import DEADLINE, wait_until

#: For jobs that end in no other way.
NO_LIMITS = {"PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "100", "PATTERN_STORAGE_TASK_TIME_LIMIT": "120"}
#: How the files of deployments stop a worker.
COLD = {"REMAP_SIGTERM": "SIGQUIT"}


@pytest.fixture
def claims(tmp_path: Path, launch: Launch, load: Load) -> Iterator[Claims]:
    folder = tmp_path / "deadly"
    folder.mkdir()
    yield Claims(folder, launch, load)
    # kombu keeps an operator's connections, which a test has cut.
    pools.reset()


def left(load: Load) -> tuple[int, int]:
    """How many messages wait in the queue, and how many are not acknowledged."""
    with redis.Redis.from_url(load.redis_url) as store:
        return int(store.llen("storage")), int(store.hlen(UNACKED_KEYS["unacked_key"]))


def test_a_process_that_was_woken_has_nothing_to_report(claims: Claims) -> None:
    claims.start({})
    claims.begin()
    with Celery("operator", broker=claims.load.redis_url, set_as_current=False) as app:
        for _ in range(5):
            assert app.control.ping(timeout=DEADLINE, limit=1)
            claims.begin()
    assert not (claims.folder / "moved").exists()
    assert claims.worker.stop() == 0


@pytest.mark.parametrize("dies", ["process", "worker"])
@pytest.mark.parametrize("step", ["moved", "noted", "claimed", "executed", "reported"])
def test_killed_at_every_step(claims: Claims, step: str, dies: str) -> None:
    """No job is lost and none is done twice."""
    load, died = claims.load, claims.folder / "died"
    claims.start((SOON if dies == "process" else AT_ONCE) | {"STEP": step, "DIES": dies})
    jobs = []

    def killed() -> bool:
        jobs.append(load.insert())
        load.submit(jobs[-1:])
        wait_until(lambda: died.exists() or load.count("job_ledger") >= len(jobs), "a job has ended")
        return died.exists()

    wait_until(killed, f"a claim comes to {step}")
    if dies == "worker":
        wait_until(lambda: claims.worker.container.status == "exited", "the worker is dead")
        claims.worker.container.group.restart()
    load.submit(load.inserts(3))
    assert load.settle().counts == {"done": len(jobs) + 3}


def test_one_process_claims_and_is_replaced_after_so_many_jobs(claims: Claims) -> None:
    """Its next one goes on."""
    claims.start(SOON, "--max-tasks-per-child", "10")

    def replaced() -> bool:
        claims.begin()
        return len(set(claims.processes)) >= 2

    wait_until(replaced, "another process claims")
    [first, *_] = claims.processes
    assert claims.processes.count(first) <= 10
    assert claims.load.settle().counts == {"done": len(claims.load.accepted)}


def test_a_slow_job_is_shown_and_ends_at_its_limit_or_by_an_operator(claims: Claims) -> None:
    """As a job that the main process has claimed; the next ones need not wait for it."""
    load = claims.load
    claims.begin_with_slow(SOON)

    def begin(seconds: int) -> str:
        job = load.insert("slow")
        job.data["usage_count"] = seconds
        load.submit([job])
        wait_until(lambda: load.client.get(job.correlation_id).status() == "STARTED", "it is running")
        claims.execute()
        return str(job.correlation_id)

    ended = begin(3)
    assert load.client.get(ended).result(DEADLINE).success
    claims.begin()
    victim = begin(60)
    with Celery("operator", broker=load.redis_url, set_as_current=False) as operator:
        operator.control.revoke(victim, terminate=True, destination=[claims.worker.hostname()])
    wait_until(lambda: load.client.get(victim).status() == "REVOKED", "it says so")
    claims.execute()


def test_a_slow_job_ends_at_its_time_limit(claims: Claims) -> None:
    """The group is rolled back, and the job goes alone, which ends at the same limit."""
    load = claims.load
    claims.begin_with_slow(SOON | {"PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "2", "PATTERN_STORAGE_TASK_TIME_LIMIT": "5"})
    job = load.insert("slow")
    job.data["usage_count"] = 60
    load.submit([job])
    result = load.client.get(job.correlation_id).result(DEADLINE)
    assert result.metadata["error_type"] == "time_limit_exceeded"


def test_a_revoked_job_is_not_executed(claims: Claims) -> None:
    """The main process knows what was revoked, so it claims."""
    load = claims.load
    claims.start(SOON)
    claims.begin()
    job = load.insert()
    with Celery("operator", broker=load.redis_url, set_as_current=False) as operator:
        operator.control.revoke(str(job.correlation_id), reply=True, destination=[claims.worker.hostname()])
    load.submit([job])
    assert load.client.get(job.correlation_id).result(DEADLINE).metadata["error_type"] == "revoked"
    before = len(claims.processes)
    claims.execute()
    assert len(claims.processes) == before


@pytest.mark.parametrize("cut", ["connections", "scripts"])
def test_redis_forgets(claims: Claims, cut: str) -> None:
    """Cut connections, and a server that has forgotten the scripts."""
    claims.start(SOON)
    claims.begin()
    with redis.Redis.from_url(claims.load.redis_url) as operator:
        for _ in range(3):
            if cut == "scripts":
                operator.script_flush()
            else:
                operator.client_kill_filter(_type="normal", skipme=True)
            job = claims.load.insert()
            claims.load.submit([job])
    assert claims.load.settle().counts == {"done": len(claims.load.accepted)}
    claims.begin()


def test_a_cut_while_a_claimed_job_runs(claims: Claims) -> None:
    """The process notices that its idle connection is gone, and claims again."""
    load = claims.load
    job = begin_slow(claims)
    with redis.Redis.from_url(load.redis_url) as operator:
        operator.client_kill_filter(_type="normal", skipme=True)
    assert load.client.get(job.correlation_id).result(DEADLINE).success
    claims.begin()
    assert load.settle().counts == {"done": len(load.accepted)}


def test_a_queue_that_is_not_consumed_is_left_alone(claims: Claims) -> None:
    """By the pool process too."""
    load = claims.load
    claims.start(SOON)
    claims.begin()
    with Celery("operator", broker=load.redis_url, set_as_current=False) as operator:
        there: dict[str, Any] = {"destination": [claims.worker.hostname()], "timeout": DEADLINE, "limit": 1}
        operator.control.broadcast("cancel_consumer", {"queue": "storage"}, reply=True, **there)

        def consumed() -> bool:
            replies = operator.control.broadcast("active_queues", reply=True, **there) or []
            [(_, queues)] = replies[0].items()
            return "storage" in [queue["name"] for queue in queues]

        wait_until(lambda: not consumed(), "it is not consumed from")
        job = load.insert()
        load.submit([job])
        with redis.Redis.from_url(load.redis_url) as store:
            # A process that was about to wait may take it, and gives it back.
            wait_until(lambda: store.llen("storage") == 1, "it is left in the queue")
            assert not consumed()
        assert load.client.get(job.correlation_id).status() == "QUEUED"
        operator.control.broadcast("add_consumer", {"queue": "storage"}, reply=True, **there)
    assert load.client.get(job.correlation_id).result(DEADLINE).success
    claims.begin()


@pytest.mark.parametrize("seconds", [1, 4])
def test_a_warm_shutdown_leaves_nothing(claims: Claims, seconds: int) -> None:
    """The job that was claimed just then is done and acknowledged, also one that takes long."""
    begin_slow(claims, seconds)
    assert claims.worker.stop() == 0
    assert left(claims.load) == (0, 0)
    assert claims.load.settle(5.0).counts == {"done": len(claims.load.accepted)}


def test_a_soft_shutdown_takes_no_more_jobs(claims: Claims) -> None:
    """Nor does the process that claims, whose reports nobody reads meanwhile; one of them is larger than its pipe."""
    load = claims.load
    claims.begin_with_slow(SOON | COLD | {"PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "5"})
    batch = load.batch(1)
    batch.patterns[0] |= {"pattern_name": "slow batch", "usage_count": 3}
    load.submit([batch])
    wait_until(lambda: sleeps(load.database_url), "the batch is running")
    claims.begin()
    os.kill(claims.worker.pid, signal.SIGTERM)
    wait_until(lambda: "Initiating Soft Shutdown" in claims.worker.logs(), "it ends")
    before = load.count("job_ledger")
    large = load.insert()
    large.data["template_code"] = "x" * (1 << 17)
    waiting = [large, *load.inserts(200)]
    for job in waiting:
        load.submit([job])
    wait_until(lambda: claims.worker.container.status == "exited", "it has ended")
    # The batch ends.
    assert load.count("job_ledger") == before + 1
    assert left(load) == (len(waiting), 0)
    start_again(claims.worker)
    assert load.settle().counts == {"done": len(load.accepted)}


def test_a_soft_shutdown_begins_no_job_that_waits(claims: Claims) -> None:
    """Though processes have become free by its end: nobody would end that job or wait for it."""
    load = claims.load
    claims.begin_with_slow(SOON | COLD | {"PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "5"} | NO_LIMITS)
    for number in (1, 2):
        batch = load.batch(1)
        batch.patterns[0] |= {"pattern_name": f"slow batch {number}", "usage_count": 3}
        load.submit([batch])
        wait_until(partial(sleeps, load.database_url, number), "the batch is running")
    job = load.insert("slow")
    job.data["usage_count"] = 60
    load.submit([job])
    wait_until(lambda: left(load) == (0, 3), "the worker has it")
    before = load.count("job_ledger")
    os.kill(claims.worker.pid, signal.SIGTERM)
    wait_until(lambda: claims.worker.container.status == "exited", "it has ended")
    assert load.count("job_ledger") == before + 2
    with redis.Redis.from_url(load.redis_url) as store:
        [message] = store.lrange("storage", 0, -1)
    assert b'"redelivered": true' not in message


@pytest.mark.parametrize("seconds", [1, 3])
def test_a_soft_shutdown_gives_a_claimed_job_its_time(claims: Claims, seconds: int) -> None:
    """Also one that has just begun, of which the main process had not heard."""
    begin_slow(claims, seconds, COLD | {"PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "5"})
    claims.worker.stop()
    assert left(claims.load) == (0, 0)
    assert claims.load.settle(5.0).counts == {"done": len(claims.load.accepted)}


def test_a_cold_shutdown_hands_back_a_claimed_job(claims: Claims) -> None:
    """One that takes long, at once and not after the visibility timeout."""
    load = claims.load
    begin_slow(claims, 60, COLD | {"PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "0"} | NO_LIMITS)
    claims.worker.stop()
    assert left(load) == (1, 0)


def test_a_cold_shutdown_acknowledges_what_has_ended(claims: Claims) -> None:
    """The main process had not done its share of these jobs: here it would wait for an hour."""
    (claims.folder / "late.py").write_text(
        "from pattern_storage.tasks.worker.pool import pool_reports\npool_reports.INTERVAL = 3_600.0\n"
    )
    load = claims.load
    claims.start(SOON | COLD, "--include=deadly,late")

    def unacknowledged() -> bool:
        claims.execute()
        return left(load)[1] > 0

    wait_until(unacknowledged, "a job has ended and is not acknowledged")
    claims.worker.stop()
    assert left(load) == (0, 0)
    assert load.settle(5.0).counts == {"done": len(load.accepted)}


def test_a_job_of_a_queue_that_is_not_consumed_any_more(claims: Claims) -> None:
    """It goes on as any other: it is shown as running, and its limit ends it."""
    load = claims.load
    limits = {"PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "3", "PATTERN_STORAGE_TASK_TIME_LIMIT": "6"}
    claims.begin_with_slow(SOON | limits | {"PATTERN_STORAGE_VISIBILITY_TIMEOUT": "60"})
    job = load.insert("slow")
    job.data["usage_count"] = 60
    with Celery("operator", broker=load.redis_url, set_as_current=False) as operator:
        there: dict[str, Any] = {"destination": [claims.worker.hostname()]}
        # Connected by then: the main process has not heard of the job when it is told.
        operator.control.ping(**there, timeout=DEADLINE, limit=1)
        claims.begin()
        load.submit([job])
        wait_until(lambda: sleeps(load.database_url), "it is running")
        operator.control.broadcast("cancel_consumer", {"queue": "storage"}, **there)
    wait_until(lambda: load.client.get(job.correlation_id).status() == "STARTED", "it is shown as running")
    result = load.client.get(job.correlation_id).result(DEADLINE)
    assert result.metadata["error_type"] == "time_limit_exceeded"
    wait_until(lambda: left(load) == (0, 0), "its message is acknowledged")


def test_a_process_that_was_not_forked_claims_nothing(claims: Claims) -> None:
    """It shares no memory with the main process, which claims all."""
    claims.start({}, "--", "worker.pool_start_method=spawn")
    spawned = [child for child in claims.worker.children() if "spawn_main" in " ".join(psutil.Process(child).cmdline())]
    assert len(spawned) == 2
    for _ in range(5):
        claims.execute()
    assert claims.processes == []
    # None has crashed and was replaced.
    assert set(spawned) <= set(claims.worker.children())
