"""A result backend that is full or away: that is told once, and no result that is nowhere else is lost."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery._state import _task_stack  # type: ignore[attr-defined]  # unknown to celery-types
from celery.exceptions import Reject

from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.tasks.worker import result_backend
from tests.fix_process import DEADLINE
from tests.fix_result_backend import backend_of, failure, outcome, value

pytestmark = pytest.mark.usefixtures("no_outage")


@pytest.fixture
def full(lone_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> Iterator["redis.Redis"]:
    """A server that is full, and waits that end at once."""
    monkeypatch.setattr(result_backend, "WAIT", 0.3)
    monkeypatch.setattr(result_backend, "SKIP", 0.0)
    with redis.Redis.from_url(lone_valkey.url) as store:
        store.config_set("maxmemory-policy", "noeviction")
        store.config_set("maxmemory", 1)
        yield store


def test_a_full_server_is_told_once_and_nothing_raises(
    full: "redis.Redis", lone_valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture, task_id: str
) -> None:
    with backend_of(lone_valkey.url) as backend:
        backend.store_result(task_id, value("STARTED"), "STARTED")
        for _ in range(3):
            backend.store_result(task_id, outcome(request="aa"), "SUCCESS")
        second = str(uuid4())
        stored = [(one, outcome(request="aa"), "SUCCESS", None) for one in (task_id, second)]
        backend.store_many(stored)
        [told] = [record for record in caplog.records if "cannot store results" in record.message]
        assert "maxmemory" in told.message
        full.config_set("maxmemory", 0)
        backend.store_many(stored)
        assert backend.get_task_meta(second, cache=False)["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("result", "state"), [(outcome("query"), "SUCCESS"), (failure(), "FAILURE")], ids=["query", "refused"]
)
def test_a_message_is_handed_back_where_its_outcome_would_be_lost(
    full: "redis.Redis", lone_valkey: EmbeddedValkey, task_id: str, result: Any, state: str
) -> None:
    """A query's rows, and why a message was refused, stand nowhere else."""
    with backend_of(lone_valkey.url) as backend:
        # As in the tracer, which knows the task that it runs.
        _task_stack.push(object())
        try:
            with pytest.raises(Reject, match=r"PostgreSQL does not have it.*True"):
                backend.store_result(task_id, result, state)
        finally:
            _task_stack.pop()


def test_a_refusal_that_passes_is_waited_for(
    lone_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch, task_id: str
) -> None:
    """The server has room again while the job waits."""
    monkeypatch.setattr(result_backend, "WAIT", DEADLINE)
    monkeypatch.setattr(result_backend, "MAIN_WAIT", DEADLINE)
    with redis.Redis.from_url(lone_valkey.url) as store, backend_of(lone_valkey.url) as backend:
        store.config_set("maxmemory", 1)
        with monkeypatch.context() as waiting:
            waiting.setattr(time, "sleep", lambda _: store.config_set("maxmemory", 0))
            backend.store_result(task_id, outcome(request="aa"), "SUCCESS")
        assert backend.get_task_meta(task_id)["status"] == "SUCCESS"


def test_a_server_that_is_away(absent_url: str, monkeypatch: pytest.MonkeyPatch, task_id: str) -> None:
    monkeypatch.setattr(result_backend, "WAIT", 0.3)
    with backend_of(absent_url) as backend:
        backend.store_result(task_id, value("STARTED"), "STARTED")
        backend.store_many([(task_id, outcome(request="aa"), "SUCCESS", None)])
        backend.store_many([(task_id, outcome("query"), "SUCCESS", None)])
