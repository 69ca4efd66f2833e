"""The dispatcher of events, with a producer and a timer that a test looks at."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.serialization import dumps

from pattern_storage.tasks.worker.events import Dispatcher


class Hub:
    """The timer of an event loop whose time a test makes pass."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.due.append((delay, callback))

    def fire(self) -> float:
        delay, callback = self.due.pop(0)
        callback()
        return delay


class Producer:
    """Takes what is published, as JSON, or refuses it as a broker does that is away."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Any]] = []
        self.error: BaseException | None = None
        self.attempts = 0

    def publish(self, body: Any, *, routing_key: str, content_type: str = "", **_: Any) -> None:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        text = body if content_type == "application/json" else dumps(body, "json")[2]
        self.taken.append((routing_key, json.loads(text)))

    @property
    def job_events(self) -> list[str]:
        return [event["uuid"] for key, batch in self.taken if key == "task.multi" for event in batch]


@pytest.fixture
def events_app() -> Iterator[Celery]:
    with Celery("events", broker="memory://", set_as_current=False) as events_app:
        events_app.events_cls = "pattern_storage.tasks.worker.events:Events"
        yield events_app


@pytest.fixture
def hub() -> Hub:
    return Hub()


def make(app: Celery, hub: Hub | None = None) -> tuple[Dispatcher, Any]:
    """As the worker makes it, with an event loop or without."""
    dispatcher = app.events.Dispatcher(app.connection_for_write(), "a@host", buffer_group=["task"] if hub else None)
    assert isinstance(dispatcher, Dispatcher)
    dispatcher.producer = producer = Producer()
    if hub is not None:
        dispatcher.flush_on_timer(hub)
    return dispatcher, producer
