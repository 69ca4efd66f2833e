"""The conclusion of a job of a group: the main process hears what Celery's tracer would say, which runs if needed."""

import json
import logging
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, signals
from celery.app import trace

from pattern_storage.storage.recorded_result import RecordedResult
from pattern_storage.tasks.worker.group import child, conclusion
from pattern_storage.tasks.worker.group.conclusion import Group, Outcome, conclude, listened
from pattern_storage.tasks.worker.task import StorageTask
from tests.fix_process import DEADLINE


def execute(self: StorageTask, *, contract: dict[str, Any]) -> None:
    """What a group never calls."""


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A storage task of an application that nobody listens to."""
    with Celery("unit", set_as_current=False) as app:
        monkeypatch.setattr("pattern_storage.tasks.worker.group.conclusion.current_app", app)
        monkeypatch.setattr(trace.logger, "level", logging.WARNING)
        trace.logger.manager._clear_cache()  # type: ignore[attr-defined]  # unknown to typeshed
        add: Any = app.task
        yield add(execute, name=f"storage.{uuid4()}", bind=True, base=StorageTask, shared=False, lazy=False)
    trace.logger.manager._clear_cache()  # type: ignore[attr-defined]


def test_documents_that_cannot_be_prepared_are_said_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised before it, the error would end the transaction, and nobody would hear of it."""

    class Backend:
        extends_results = False

        def prepare(self, results: Any) -> Any:
            raise KeyError("a fault of ours")

    class App:
        backend = Backend()

    monkeypatch.setattr(child, "current_app", App())
    job = child.GroupedJob("storage.insert", str(uuid4()), {}, "")
    documents = child.Documents({job.id: job})
    documents.prepare({job.id: recorded()})
    with pytest.raises(KeyError, match="a fault of ours"):
        documents.store()


DATA = {"pattern_name": "a", "pattern_type": "function", "language": "python", "template_code": "x = 1"}


@pytest.mark.parametrize("encode", [str, str.encode, lambda text: b64encode(text.encode()).decode()])
@pytest.mark.parametrize(
    ("body", "is_grouped"),
    [
        ([[], {"contract": {"data": DATA}}, {"callbacks": None, "chain": None}], True),
        ([[], {"contract": {"data": DATA}}, None], True),
        ([[], {"contract": {"data": DATA}}, {"callbacks": [{"task": "a"}]}], False),
        ([[], {"contract": {"data": DATA}}, {"chain": [{"task": "a"}]}], False),
        ([[], {"contract": {"data": DATA}}, {"chord": {"task": "a"}}], False),
        ([[], {"contract": {}}, None], False),
        ([[], {"contract": {"data": DATA}, "more": 1}, None], False),
        ([[1], {"contract": {"data": DATA}}, None], False),
        ([{}, {"contract": {"data": DATA}}, None], False),
        ([[], {"contract": {"data": DATA}}, 5], False),
        ([[], {"contract": {"data": DATA}}], False),
        ([[], 5, None], False),
        ([], False),
    ],
)
def test_which_jobs_share_the_transaction(body: Any, is_grouped: bool, encode: Callable[[str], str | bytes]) -> None:
    """Those with links need their result at once; what is wrong says so when it is executed alone."""
    job = child.GroupedJob("storage.insert", str(uuid4()), {}, encode(json.dumps(body)))
    contract = child._contract(job)
    assert (contract is not None) == is_grouped
    if is_grouped:
        # As the tracer reads them.
        assert job.request == {"args": [], "kwargs": body[1]}


def recorded(**metadata: Any) -> RecordedResult:
    data = {"pattern_id": str(uuid4()), "pattern_name": "é'\"\n" + "x" * 300}
    failed = bool(metadata)
    result = {
        "success": not failed, "data": None if failed else data, "error": "no" if failed else None,
        "metadata": {"operation": "insert", "correlation_id": str(uuid4()), **metadata},
    }  # fmt: skip
    return RecordedResult(not failed, json.dumps(result).encode())


def concluded(task: Any, result: RecordedResult) -> Outcome:
    request: dict[str, Any] = {"id": str(uuid4()), "task": task.name, "args": [], "kwargs": {"contract": {}}}
    request |= {"argsrepr": "insert x", "kwargsrepr": "''", "delivery_info": {}}
    return conclude(task.name, request, result, Group(time.monotonic() - 1, 0.0, listened([task.name])))


def test_without_listeners_the_tracer_is_left_out(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = recorded()
    with monkeypatch.context() as alone:
        alone.delattr(trace, "build_tracer")
        quick = concluded(task, result)
    monkeypatch.setattr(conclusion, "_has_hooks", lambda _: True)
    traced = concluded(task, result)
    assert quick[:2] == traced[:2]
    assert quick[1].endswith("...")
    # Both count from when the group began.
    assert quick[2] >= 1 <= traced[2]


@pytest.mark.parametrize("signal", ["task_prerun", "task_success", "task_postrun"])
def test_a_listener_hears_of_each_job(task: Any, signal: str) -> None:
    heard: list[Any] = []

    def hear(**told: Any) -> None:
        heard.append(told["sender"].name)

    getattr(signals, signal).connect(hear)
    try:
        assert concluded(task, recorded())[0] == 0
    finally:
        getattr(signals, signal).disconnect(hear)
    assert heard == [task.name]


def test_the_line_of_the_log_is_the_tracer_s(
    task: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger=trace.logger.name)
    result = recorded()
    concluded(task, result)
    monkeypatch.setattr(conclusion, "_has_hooks", lambda _: True)
    concluded(task, result)
    quick, traced = (vars(one)["data"] for one in caplog.records if f"Task {task.name}" in one.message)
    assert 1 <= quick.pop("runtime") < DEADLINE
    assert 1 <= traced.pop("runtime") < DEADLINE
    assert quick.pop("id") in caplog.records[0].message
    traced.pop("id")
    assert quick == traced
    assert [one.msg for one in caplog.records] == [trace.LOG_SUCCESS] * 2


def test_a_hook_of_the_task_is_called(task: Any) -> None:
    heard: list[str] = []
    type(task).on_success = lambda self, *_: heard.append(self.name)
    concluded(task, recorded())
    assert heard == [task.name]


def test_a_failure_is_traced(task: Any) -> None:
    heard: list[Any] = []

    def hear(**told: Any) -> None:
        heard.append(told["exception"].error_type)

    signals.task_failure.connect(hear)
    try:
        failed, answer, _ = concluded(task, recorded(error_type="unique_violation"))
    finally:
        signals.task_failure.disconnect(hear)
    assert failed == 1
    assert heard == ["unique_violation"]
    assert "unique_violation: no" in str(answer.exception)
