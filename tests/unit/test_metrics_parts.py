"""What asks servers at a scrape keeps its time bound, whatever a server does."""

import threading
import time
from collections.abc import Iterator

import pytest
from celery import Celery

from pattern_storage.tasks.observability.metrics.servers import Probe, _declared


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
            assert _declared(connection, "depths") == 2
            assert _declared(connection, "never declared") == 0
            queue.clear()
        connection.release()
