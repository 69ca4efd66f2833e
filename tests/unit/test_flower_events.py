"""Every event that a broker can hold leaves Flower's memory readable, writable and of bounded size."""

import json
import pickle
import time
from typing import Any
from uuid import UUID

import pytest
from celery.events.state import State
from hypothesis import given
from hypothesis import strategies as st

from pattern_storage.tasks.flower.event_validation import LARGEST, LONGEST, validated
from pattern_storage.tasks.flower.task import FlowerTask
from tests.fix_odd_events import EVENTS


class Cluster(State):
    """As Flower makes it."""

    Task = FlowerTask


@given(st.lists(EVENTS, max_size=12))
def test_any_events(events: list[dict[str, Any]]) -> None:
    cluster: Any = Cluster()
    for event in events:
        if (checked := validated(event)) is not None:
            cluster.event({"local_received": time.time(), "clock": 1} | checked)
    task: Any
    for task in cluster.tasks.values():
        assert type(task) is FlowerTask
        json.dumps(task.as_dict() | {"worker": str(task.worker)}, allow_nan=False).encode()
        assert callable(task.event)
        assert not task.as_dict()["children"]
        assert task.info() is not None
    for worker in cluster.workers.values():
        assert worker.alive in (True, False)
        assert worker.status_string
    pickle.loads(pickle.dumps(cluster)).tasks_by_time()


@pytest.mark.parametrize(
    "event",
    [
        None, 5, [], "task-sent", {}, {"type": "task-sent"}, {"type": "task-sent", "hostname": "a"},
        {"type": "task-sent", "hostname": "a", "uuid": ["a"]}, {"type": "other-sent", "hostname": "a", "uuid": "a"},
        {"type": "task-", "hostname": "a", "uuid": "a"}, {"type": "worker-online", "hostname": ""},
    ],
)  # fmt: skip
def test_what_is_about_nothing(event: Any) -> None:
    assert validated(event) is None


def test_what_is_right_is_kept_and_the_rest_is_not() -> None:
    right = {
        "type": "task-succeeded", "hostname": "celery@a", "uuid": "a", "timestamp": 1.5, "clock": 5, "pid": 7,
        "utcoffset": -2, "result": "pattern x", "runtime": 0.5, "retries": 0,
    }  # fmt: skip
    wrong = {"children": 5, "event": "x", "root_id": None, "current": "many", "total": float("nan"), "rate": True}
    assert validated(right | wrong) == right
    heartbeat = {
        "type": "worker-heartbeat", "hostname": "celery@a", "timestamp": 1, "freq": 2.0, "active": 0, "processed": 1,
        "loadavg": [0.5, 1, 2], "sw_ver": "5.7",
    }  # fmt: skip
    assert validated(heartbeat | {"heartbeats": "no list"}) == heartbeat
    for odd in ({"freq": "2"}, {"loadavg": [1, 2]}, {"loadavg": [1, 2, "x"]}, {"clock": LARGEST + 1}, {"active": -1}):
        [name] = odd
        assert name not in (validated(heartbeat | odd) or {name: 0})


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        ({"type": "task-succeeded", "result": f"{{'data': {{'pattern_id': '{UUID(int=1)}'"},
         f"pattern {UUID(int=1)}"),
        ({"type": "task-succeeded", "result": "{'success': True, 'data': {}}"}, "done"),
        ({"type": "task-succeeded", "name": "imports.run",
          "result": "{'data': {'name': 'n', 'state': 'done', 'rows_read': 1200, 'rows_inserted': 1190,"
                    " 'rows_updated': 0, 'rows_skipped': 7, 'rows_rejected': 3, ...}"},
         "done, 1,200 read, 1,190 new, 7 skipped, 3 rejected"),
        ({"type": "task-failed", "exception": f"StorageOperationFailed({'bad ' * 400})"}, f"{'bad ' * 75}…"),
        ({"type": "task-succeeded", "name": "other.task", "result": "{'state': 'x'}"}, "{'state': 'x'}"),
    ],
)  # fmt: skip
def test_a_result_is_shown_as_a_few_words(event: dict[str, Any], shown: str) -> None:
    cluster: Any = Cluster()
    checked = validated({"name": "storage.insert", "hostname": "celery@a", "uuid": "a"} | event)
    assert checked
    cluster.event({"local_received": time.time(), "clock": 1} | checked)
    assert cluster.tasks["a"].result == shown


def test_text_of_other_kinds_is_shown_and_bounded() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    event = {
        "type": "task-sent",
        "hostname": "a",
        "uuid": "\ud800",
        "args": [1],
        "kwargs": deep,
        "traceback": "x" * 10**6,
    }
    checked = validated(event | {"traceback": "x" * 10**6})
    assert checked is not None
    assert (checked["uuid"], checked["args"], len(checked["traceback"])) == ("?", "[1]", LONGEST)
    assert checked["kwargs"] == "nested too deeply to be shown"
    assert 0 < checked["timestamp"] <= time.time()
