"""What Flower keeps of Celery's events, fed to Celery's own state of the cluster."""

import pickle
from itertools import count
from typing import Any

import pytest
from celery.events.state import State

from pattern_storage.tasks.flower.task import FlowerTask

UUID = "0b0f7f6e-6a34-4d58-a0b5-6a3d8a0f6b11"
TEMPLATE = "def secret_template(): ..."
_clock = count(1)


class Cluster(State):
    """As Flower makes it."""

    Task = FlowerTask


@pytest.fixture
def cluster() -> Any:
    return Cluster()


def tell(cluster: Any, kind: str, **fields: Any) -> Any:
    """Feed one event and return the job."""
    clock = next(_clock)
    about = {"uuid": UUID, "hostname": "celery@here", "timestamp": clock, "local_received": clock, "clock": clock}
    cluster.event({"type": f"task-{kind}", **about, **fields})
    return cluster.tasks[UUID]


def begin(cluster: Any, name: str = "storage.insert", **fields: Any) -> Any:
    return tell(cluster, "received", name=name, args="insert X (code/python)", kwargs="", **fields)


def test_the_life_of_a_job(cluster: Any) -> None:
    assert begin(cluster).state == "RECEIVED"
    assert tell(cluster, "started", routing_key="storage").state == "STARTED"
    job = tell(cluster, "retried", exception="StorageUnavailable(pool_timeout: No connection)", traceback="Traceback …")
    assert (job.state, job.exception, job.traceback) == ("RETRY", "pool_timeout: No connection", None)
    assert job.result == "pool_timeout: No connection"
    assert begin(cluster, retries=1).state == "RECEIVED"
    tell(cluster, "started")
    found = f"{{'success': True, 'data': {{'pattern_id': '{UUID}', 'pattern_name': 'X', …"
    job = tell(cluster, "succeeded", result=found, runtime=0.25)
    assert (job.state, job.result, job.runtime, job.retries) == ("SUCCESS", f"pattern {UUID}", 0.25, 1)
    # Why it was retried is still to be seen, and its queue.
    assert (job.exception, job.routing_key) == ("pool_timeout: No connection", "storage")


@pytest.mark.parametrize(
    ("exception", "reason", "traceback"),
    [
        ("StorageOperationFailed(unique_violation: Pattern already exists: X)",
         "unique_violation: Pattern already exists: X", None),
        ("StorageOperationFailed(validation_error: two\nlines (of it))", "validation_error: two\nlines (of it)", None),
        # What no code of ours raises is a fault of the worker, and shown whole.
        ("WorkerLostError('signal 9')", "WorkerLostError('signal 9')", "Traceback …"),
    ],
)  # fmt: skip
def test_why_a_job_failed(cluster: Any, exception: str, reason: str, traceback: str | None) -> None:
    begin(cluster)
    job = tell(cluster, "failed", exception=exception, traceback="Traceback …")
    assert (job.state, job.result, job.exception, job.traceback) == (
        "FAILURE",
        " ".join(reason.split()),
        reason,
        traceback,
    )


@pytest.mark.parametrize(("expired", "says"), [(False, "cancelled"), (True, "expired")])
def test_a_revoked_job(cluster: Any, expired: bool, says: str) -> None:
    begin(cluster)
    job = tell(cluster, "revoked", terminated=False, signum=None, expired=expired)
    assert (job.state, job.result) == ("REVOKED", says)


def sent(cluster: Any) -> Any:
    """What a foreign producer with `task_send_sent_event` tells."""
    kwargs = repr({"contract": {"data": {"template_code": TEMPLATE}}})
    return tell(
        cluster, "sent", name="storage.insert", args="()", kwargs=kwargs, queue="storage", routing_key="storage"
    )


def test_what_a_foreign_producer_tells_is_not_repeated(cluster: Any) -> None:
    job = sent(cluster)
    assert (job.state, job.args, job.kwargs) == ("PENDING", "insert, no worker has it yet", "")
    assert (begin(cluster).args, job.routing_key) == ("insert X (code/python)", "storage")
    assert TEMPLATE not in repr(vars(job))


def test_a_foreign_producer_heard_after_the_worker(cluster: Any) -> None:
    begin(cluster)
    job = sent(cluster)
    assert (job.state, job.args, job.kwargs) == ("RECEIVED", "insert X (code/python)", "")
    assert TEMPLATE not in repr(vars(job))


def test_a_result_is_never_repeated(cluster: Any) -> None:
    begin(cluster, "storage.query")
    job = tell(cluster, "succeeded", result=repr({"data": {"patterns": [{"template_code": TEMPLATE}]}}))
    assert job.result == "done"


def test_other_applications_jobs_are_left_alone(cluster: Any) -> None:
    job = tell(cluster, "received", name="shop.order", args="(1,)", kwargs="{'a': 2}")
    assert (job.args, job.kwargs) == ("(1,)", "{'a': 2}")
    assert tell(cluster, "succeeded", result="3").result == "3"
    assert tell(cluster, "failed", exception="KeyError('a')", traceback="Traceback …").traceback == "Traceback …"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"current": 1_200, "total": 5_000, "rate": 830.4}, "1,200 of 5,000 (24 %), 830/s"),
        ({"current": 1_200, "total": None, "rate": None}, "1,200"),
        ({"current": 0, "total": 0, "rate": 0.0}, "0, 0/s"),
        ({"current": "<b>", "total": [], "rate": {}}, "0"),
        ({}, "0"),
    ],
)
def test_progress(cluster: Any, fields: dict[str, Any], says: str) -> None:
    begin(cluster, "imports.run")
    tell(cluster, "started")
    job = tell(cluster, "progress", **fields)
    assert (job.state, job.progress, job.result) == ("PROGRESS", says, says)
    assert job.as_dict()["progress"] == says


@pytest.mark.parametrize(
    ("kind", "state"), [("succeeded", "SUCCESS"), ("failed", "FAILURE"), ("revoked", "REVOKED"), ("retried", "RETRY")]
)
def test_progress_ends(cluster: Any, kind: str, state: str) -> None:
    begin(cluster, "imports.run")
    tell(cluster, "progress", current=1, total=2)
    assert tell(cluster, kind, result="all").state == state


def test_what_comes_late_changes_nothing(cluster: Any) -> None:
    begin(cluster, "imports.run")
    tell(cluster, "progress", current=1, total=2)
    assert tell(cluster, "started").state == "PROGRESS"
    tell(cluster, "succeeded", result="all")
    job = tell(cluster, "progress", current=2, total=2)
    assert (job.state, job.result, job.progress) == ("SUCCESS", "done", "1 of 2 (50 %)")


def test_it_survives_a_restart(cluster: Any) -> None:
    begin(cluster, "imports.run")
    tell(cluster, "progress", current=1, total=2)
    restored: Any = pickle.loads(pickle.dumps(cluster))
    job = restored.tasks[UUID]
    assert type(job) is FlowerTask
    assert (job.state, job.args, job.progress) == ("PROGRESS", "insert X (code/python)", "1 of 2 (50 %)")
    assert tell(restored, "succeeded", result="all").state == "SUCCESS"
