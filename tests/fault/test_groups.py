"""Groups with every kind of job that must not spoil its neighbours: each job has its own outcome."""

import re
from uuid import UUID, uuid4

import psycopg
import pytest
from celery import Celery

from tests.fix_celery import BLOCKED, locked_patterns, worker_connections
from tests.fix_faults import GROUPS, SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_pool_claims import SLOW
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern


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
    load.submit(good[:5])
    # Past our client, as any Celery application.
    with Celery("theirs", broker=load.redis_url, set_as_current=False) as app:
        app.send_task(
            "storage.insert", kwargs={"contract": {"data": bad.data}}, task_id=str(bad.correlation_id), queue="storage"
        )
    load.client.submit(missing)
    load.submit([*good[5:], twice, orphan])
    launch(load.database_url, load.redis_url, concurrency=1, pool=pool, env=SOON | SAFE)
    outcomes = load.settle()
    assert outcomes.counts == {"done": 10, "failed": 2}
    kinds = {one.correlation_id: load.client.get(one.correlation_id).result(DEADLINE).metadata["error_type"]
             for one in (twice, missing, bad, orphan)}  # fmt: skip
    assert list(kinds.values()) == [
        "unique_violation", "validation_error", "validation_error", "foreign_key_violation"
    ]  # fmt: skip
    assert load.count("pattern_templates") == 10


@pytest.mark.parametrize(
    ("pool", "limits", "end", "error_type"),
    [
        ("prefork", {"TASK_SOFT_TIME_LIMIT": "2", "TASK_TIME_LIMIT": "5"}, "failed", "time_limit_exceeded"),
        # A thread has PostgreSQL's limits only, and what PostgreSQL cancels is tried again.
        ("threads", {"STATEMENT_TIMEOUT": "2", "MAX_ATTEMPTS": "2"}, "dead letter", "statement_timeout"),
    ],
)
def test_one_slow_job_does_not_fail_the_others(
    launch: Launch, load: Load, pool: str, limits: dict[str, str], end: str, error_type: str
) -> None:
    """The group passes the limit, and then the slow one alone."""
    load.watch_attempts()
    with load.connect() as connection:
        connection.execute(SLOW)
    slow = load.insert("slow")
    slow.data["usage_count"] = 60
    jobs = load.inserts(10)
    load.submit([*jobs[:5], slow, *jobs[5:]])
    environment = {f"PATTERN_STORAGE_{name}": value for name, value in limits.items()}
    launch(load.database_url, load.redis_url, concurrency=1, pool=pool, env=SOON | SAFE | environment)
    outcomes = load.settle()
    assert outcomes.counts == {"done": 10, end: 1}
    result = load.client.get(slow.correlation_id).result(DEADLINE)
    assert result.metadata["error_type"] == error_type
    assert load.counted().keys() <= ({slow.correlation_id} if end == "dead letter" else set())


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_one_locked_row_does_not_hold_the_others(launch: Launch, load: Load, pool: str) -> None:
    """The group gives up the row that somebody else has locked; all others are done while that one waits."""
    jobs = load.mixed(40)
    update = next(one for one in jobs if one.operation == "update")
    with psycopg.connect(load.database_url) as holder:
        holder.execute("SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", [update.pattern_id])
        load.submit(jobs)
        launch(load.database_url, load.redis_url, concurrency=2, pool=pool, env=SOON | SAFE)
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
    reused = contract("insert", data=make_pattern(), correlation_id=jobs[8].correlation_id)
    load.client.submit_many([*jobs[5:8], reused])
    worker = launch(load.database_url, load.redis_url, concurrency=1, pool=pool, env=SOON | SAFE)
    outcomes = load.settle()
    assert outcomes.counts == {"done": 17, "failed": 3}
    assert outcomes.error_types["revoked"] == 3
    assert load.count("pattern_templates") == 17
    with load.connect() as connection:
        [first] = connection.execute(
            "SELECT result FROM job_ledger WHERE correlation_id = %s", [reused.correlation_id]
        ).fetchall()
    assert first["result"]["data"]["pattern_name"] == jobs[8].data["pattern_name"]
    conflict = rf"\[{reused.correlation_id}\] raised expected: StorageOperationFailed\(.*correlation_conflict"
    assert len(re.findall(conflict, worker.logs())) == 1


REVOKED = (
    '{"success": false, "data": null, "error": "The job was cancelled before it was done",'
    ' "metadata": {"correlation_id": "ID", "operation": null, "duration_ms": 0.0, "error_type": "revoked"}}'
)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_updates_and_deletes_of_one_pattern_keep_queue_order(launch: Launch, load: Load, pool: str) -> None:
    """The last of ten updates in a queue wins; a delete behind them finds the pattern, an update behind that none."""
    kept, gone = load._seed([str(uuid4()), str(uuid4())]).values()
    updates = {
        row: [contract("update", pattern_id=row, data={"usage_count": number}) for number in range(1, 11)]
        for row in (kept, gone)
    }
    delete = contract("delete", pattern_id=gone)
    late = contract("update", pattern_id=gone, data={"usage_count": 99})
    others = [contract("insert", data=make_pattern()) for _ in range(10)]
    rounds = zip(updates[kept], updates[gone], others, strict=True)
    queue = [*(one for jobs in rounds for one in jobs), delete, late]
    load.client.submit_many(queue)
    launch(load.database_url, load.redis_url, concurrency=1, pool=pool, env=SOON | SAFE)
    results = [load.client.get(one.correlation_id).result(DEADLINE) for one in queue]
    assert [result.success for result in results] == [True] * 31 + [False]
    assert (results[-2].data["deleted"], results[-1].metadata["error_type"]) == (True, "validation_error")
    with load.connect() as connection:
        found = connection.execute("SELECT id, usage_count FROM pattern_templates WHERE usage_count > 0").fetchall()
        assert found == [{"id": kept, "usage_count": 10}]
        assert connection.execute("SELECT FROM pattern_templates WHERE id = %s", [gone]).fetchall() == []
    # A process that claims may have had some before, alone.
    assert load.transactions() < len(queue) / 2 if GROUPS else load.transactions() == len(queue)


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


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_revoked_jobs_that_wait_for_a_group(launch: Launch, load: Load, pool: str) -> None:
    """Those in no group yet are not executed, whether the worker has them or the queue; nothing is killed for them."""
    jobs = load.inserts(40)
    with locked_patterns(load.database_url):
        load.submit(jobs)
        environment = SOON | SAFE | {"PATTERN_STORAGE_GROUP_SIZE": "2"}
        worker = launch(load.database_url, load.redis_url, concurrency=1, pool=pool, env=environment)
        wait_until(lambda: worker_connections(load.database_url, BLOCKED), "a job waits for the table")
        revoked = [str(one.correlation_id) for one in jobs[10:]]
        with Celery("operator", broker=load.redis_url, set_as_current=False) as operator:
            operator.control.revoke(revoked, reply=True, destination=[worker.hostname()])
    outcomes = load.settle()
    assert outcomes.counts == {"done": 10, "failed": 30}
    assert outcomes.error_types["revoked"] == 30


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
