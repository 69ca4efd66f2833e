"""Jobs that a pool process claims itself: killed at every step, slow, revoked, and without their connection."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from celery import Celery
from kombu import pools

from pattern_storage.storage import ModelContractPatternStorage
from tests.fix_faults import AT_ONCE, SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_process import DEADLINE, wait_until

#: A module for workers: the first claim of a pool process that comes to the step STEP kills it, or the worker. Each
#: claim is noted in a file.
DEADLY = """
import os, signal
from pathlib import Path
from pattern_storage.tasks.worker.group import claim_connections, permit, pool_claims, pool_jobs

folder = Path(__file__).parent

def die(step):
    if step != os.environ.get("STEP"):
        return
    try:
        (folder / "died").touch(exist_ok=False)
    except FileExistsError:
        return
    if os.environ["DIES"] == "worker":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

take, run_group = pool_claims.PoolClaims._take, pool_claims.run_group
hold, release = permit.Permit.hold, permit.Permit.release
send_claim = claim_connections.ClaimConnections.send_claim
claims = False

def deadly_take(self, connections, raw):
    global claims
    if raw is not None:
        die("moved")
    claims = True
    try:
        return take(self, connections, raw)
    finally:
        claims = False

def deadly_hold(self, message):
    hold(self, message)
    with (folder / "claims").open("a") as file:
        print(os.getpid(), file=file)
    die("noted")

def deadly_send_claim(self, raw):
    send_claim(self, raw)
    die("claimed")

def deadly_run_group(*arguments):
    outcomes = run_group(*arguments)
    die("executed")
    return outcomes

def deadly_release(self):
    if claims:
        die("reported")
    release(self)

def note_moved(self, raw):
    (folder / "moved").touch()
    on_moved(self, raw)

on_moved, pool_jobs.PoolJobs._on_moved = pool_jobs.PoolJobs._on_moved, note_moved
pool_claims.PoolClaims._take, pool_claims.run_group = deadly_take, deadly_run_group
permit.Permit.hold, permit.Permit.release = deadly_hold, deadly_release
claim_connections.ClaimConnections.send_claim = deadly_send_claim
"""

#: Inserts of this name take as long as their usage_count says, in seconds.
SLOW = """
CREATE FUNCTION sleep_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(NEW.usage_count);
    RETURN NEW;
END $$;
CREATE TRIGGER sleep_first BEFORE INSERT ON pattern_templates
    FOR EACH ROW WHEN (NEW.pattern_name LIKE 'slow%') EXECUTE FUNCTION sleep_first();
"""


class Claims:
    """A worker whose pool process has begun to claim jobs itself."""

    def __init__(self, folder: Path, launch: Launch, load: Load) -> None:
        self.folder, self._launch, self.load = folder, launch, load
        (folder / "deadly.py").write_text(DEADLY)

    def start(self, environment: dict[str, str], *options: str, concurrency: int = 2) -> None:
        paths = {"PYTHONPATH": str(self.folder)}
        self.worker = self._launch(
            self.load.database_url, self.load.redis_url, "--include=deadly", *options,
            env=environment | SAFE | paths, concurrency=concurrency,
        )  # fmt: skip

    @property
    def processes(self) -> list[str]:
        """The process of each claim."""
        path = self.folder / "claims"
        return path.read_text().split() if path.exists() else []

    def execute(self) -> None:
        """Have one job executed, whoever claims it."""
        job = self.load.insert()
        self.load.submit([job])
        assert self.load.client.get(job.correlation_id).result(DEADLINE).success

    def begin(self) -> None:
        """Have jobs executed until a pool process claims them."""
        before = len(self.processes)

        def claimed() -> bool:
            self.execute()
            return len(self.processes) > before

        wait_until(claimed, "a pool process claims a job")


@pytest.fixture
def claims(tmp_path: Path, launch: Launch, load: Load) -> Iterator[Claims]:
    folder = tmp_path / "deadly"
    folder.mkdir()
    yield Claims(folder, launch, load)
    # kombu keeps an operator's connections, which a test has cut.
    pools.reset()


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
    with load.connect() as connection:
        connection.execute(SLOW)
    claims.start(SOON)
    claims.begin()

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
    with load.connect() as connection:
        connection.execute(SLOW)
    claims.start(SOON | {"PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "2", "PATTERN_STORAGE_TASK_TIME_LIMIT": "5"})
    claims.begin()
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


def test_a_warm_shutdown_leaves_nothing(claims: Claims) -> None:
    """The job that was claimed just then is done and acknowledged."""
    load = claims.load
    begin_slow(claims)
    claims.worker.stop()
    assert load.settle(5.0).counts == {"done": len(load.accepted)}


def begin_slow(claims: Claims) -> ModelContractPatternStorage:
    """Start the worker and return a job that is running, for a second."""
    load = claims.load
    with load.connect() as connection:
        connection.execute(SLOW)
    claims.start(SOON)
    claims.begin()
    job = load.insert("slow")
    job.data["usage_count"] = 1
    load.submit([job])
    wait_until(lambda: sleeps(load.database_url), "it is running")
    return job


def sleeps(database_url: str) -> bool:
    """Whether a session sleeps in a trigger."""
    with psycopg.connect(database_url) as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        [(number,)] = connection.execute(asked).fetchall()
        return bool(number)
