"""What asks servers at a scrape keeps its time bound, whatever a server does."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from pattern_storage.tasks.observability.metrics.instruments import Instruments
from pattern_storage.tasks.observability.metrics.recorder import Recorder
from pattern_storage.tasks.observability.metrics.servers import Probe, message_age
from pattern_storage.tasks.queue_depths import count_messages


@pytest.fixture
def silence() -> Iterator[threading.Event]:
    """Set when the server at last answers."""
    event = threading.Event()
    yield event
    event.set()


def test_a_server_that_says_nothing_is_asked_once(silence: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        silence.wait()
        return "at last"

    probe = Probe("deaf", ask)
    for _ in range(3):
        assert probe.end(probe.begin(), time.monotonic()) is None
    assert len(asked) == 1
    # Once, not at each scrape.
    assert [record.getMessage() for record in caplog.records] == ["metrics: cannot ask deaf: no answer within 2 s"]
    late = probe.begin()
    silence.set()
    assert probe.end(late, time.monotonic() + 60) == "at last"
    assert probe.end(probe.begin(), time.monotonic() + 60) == "at last"
    assert len(asked) == 2


def test_a_server_that_refuses_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise ConnectionError("refused\nby the server")

    probe = Probe("closed", refuse)
    for _ in range(2):
        assert probe.end(probe.begin(), time.monotonic() + 60) is None
    assert [record.getMessage() for record in caplog.records] == ["metrics: cannot ask closed: refused by the server"]


def test_queues_of_a_broker_that_is_not_redis() -> None:
    """kombu's in-memory broker answers a passive declaration as RabbitMQ does."""
    with Celery("depths", broker="memory://", set_as_current=False) as app:
        connection = app.connection_for_write()
        with connection.SimpleQueue("depths") as queue:
            queue.put("one")
            queue.put("two")
            assert count_messages(connection, "depths") == 2
            assert count_messages(connection, "never declared") == 0
            queue.clear()
        connection.release()


def test_what_cannot_be_counted_harms_no_job(caplog: pytest.LogCaptureFixture) -> None:
    """As with a full disk, or a folder of metrics that somebody has removed."""
    recorder: Any = Recorder.__new__(Recorder)  # without its signals, which would stay
    recorder._lock, recorder._complained = threading.Lock(), False
    recorder._instruments = None
    task = SimpleNamespace(name="storage.insert", request=SimpleNamespace(retries=0, delivery_info={}, sent_at=1.0))
    recorder._begun(task)
    recorder._succeeded(task, {"metadata": {}})
    recorder._failed(task, ValueError())
    recorder._retried(task)
    recorder._revoked(task)
    recorder.observe("insert_duration_ms", 1.0, "ms")
    recorder.relayed(1, 1)
    recorder.imported("nightly", {"read": 1})
    assert not recorder._lock.locked()
    [record] = caplog.records
    assert record.getMessage().startswith("metrics: not everything is counted: AttributeError")


def test_a_run_is_counted_once_however_often_its_message_comes() -> None:
    recorder: Any = Recorder.__new__(Recorder)
    recorder._lock, recorder._complained, recorder._instruments = threading.Lock(), False, Instruments()
    for name in ("imports.run", "storage.insert"):
        task = SimpleNamespace(name=name, request=SimpleNamespace())
        for metadata in ({}, {"replayed": True}):
            recorder._succeeded(task, {"metadata": metadata})
    counted = {
        operation: recorder._instruments.jobs.labels(operation, "success", "")._value.get()
        for operation in ("import", "insert")
    }
    assert counted == {"import": 1, "insert": 2}


@pytest.mark.parametrize("odd", ["NaN", '"NaN"', "1e999", "-Infinity", "1" * 400, "[]", '"x"'])
def test_a_message_that_says_no_time_has_no_age(odd: str) -> None:
    right = f'{{"headers": {{"sent_at": {time.time() - 60}}}}}'
    assert 60 <= message_age([f'{{"headers": {{"sent_at": {odd}}}}}', right, "{"]) < 3_600
