"""Ends of an attempt that no worker's process shows in time: its limit, and a retry that cannot be sent."""

from collections.abc import Coroutine, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import Celery
from celery.exceptions import Reject, SoftTimeLimitExceeded
from kombu.exceptions import OperationalError

from pattern_storage.config.settings import load_settings
from pattern_storage.storage import ModelResult, ledger
from pattern_storage.tasks.worker import runtime, task
from pattern_storage.tasks.worker.task import StorageTask
from pattern_storage.vocabulary import ErrorType
from tests.fix_storage import make_pattern


class Insert(StorageTask):
    """`storage.insert`, of an application that nobody else uses."""

    name = "storage.insert"


@pytest.fixture
def job() -> UUID:
    return uuid4()


@pytest.fixture
def insert(database_url: str, job: UUID, monkeypatch: pytest.MonkeyPatch) -> Iterator[Insert]:
    """The task as it executes the job, with this test's database."""
    settings = load_settings(database_url=database_url, redis_url="redis://127.0.0.1:1")
    for module in (runtime, task):
        monkeypatch.setattr(module, "environment_settings", lambda: settings)
    with Celery("ends", broker="memory://", backend="cache+memory://", set_as_current=False) as app:
        made: Any = app.register_task(Insert())
        made.push_request(id=str(job), called_directly=False, retries=0, delivery_info={}, args=(), kwargs={})
        yield made
        made.pop_request()
    runtime.close()


def test_a_job_whose_time_is_over_is_settled(insert: Insert, job: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outbox row would have it sent again for ever, and its COMMIT may be on the way."""

    def too_slow(coroutine: Coroutine[Any, Any, Any]) -> None:
        coroutine.close()
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(insert, "_run", too_slow)
    with pytest.raises(SoftTimeLimitExceeded):
        insert.execute("insert", {"data": make_pattern()})
    found = runtime.on_connection(ledger.find, job)
    assert found is not None
    assert found[1].metadata["error_type"] == "time_limit_exceeded"


def test_a_job_that_was_done_just_in_time(insert: Insert, job: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    def done_and_late(coroutine: Coroutine[Any, Any, Any]) -> None:
        runtime.run(coroutine)
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(insert, "_run", done_and_late)
    result = insert.execute("insert", {"data": make_pattern()})
    assert (result["success"], result["metadata"]["replayed"]) == (True, True)
    assert result["metadata"]["correlation_id"] == str(job)


def test_a_retry_that_cannot_be_sent_goes_back_to_the_queue(
    insert: Insert, job: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery would drop the message: a lost job."""

    def unreachable(*_: Any, **__: Any) -> None:
        raise OperationalError("the broker is away")

    monkeypatch.setattr(Insert, "apply_async", unreachable)
    failed = ModelResult.failure("gone", ErrorType.CONNECTION_LOST, correlation_id=job, operation="insert")
    with pytest.raises(Reject) as rejected:
        insert.end_as_retry(failed, 1.0)
    told: Any = rejected.value
    assert told.requeue is True
