"""The dispatcher of events: job events wait for a timer and leave together, and nothing about them raises."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from kombu.serialization import dumps
from kombu.utils.json import loads

from pattern_storage.tasks.worker import events
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
def app() -> Iterator[Celery]:
    with Celery("events", broker="memory://", set_as_current=False) as app:
        app.events_cls = "pattern_storage.tasks.worker.events:Events"
        yield app


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


def test_job_events_leave_together_when_the_timer_fires(app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(app, hub)
    for number in range(200):
        dispatcher.send("task-received", uuid=str(number), retry=True)
    assert (producer.taken, len(hub.due)) == ([], 1)
    assert hub.fire() == events.FLUSH_INTERVAL
    [(routing_key, batch)] = producer.taken
    assert routing_key == "task.multi"
    assert [event["uuid"] for event in batch] == [str(number) for number in range(200)]
    assert batch[0].keys() >= {"type", "timestamp", "hostname", "clock", "pid", "utcoffset"}
    assert [event["clock"] for event in batch] == sorted({event["clock"] for event in batch})
    # Nothing waits, so nothing is due; the next event makes it so.
    assert hub.due == []
    dispatcher.send("task-started", uuid="next")
    assert len(hub.due) == 1


def test_a_publication_is_bounded(app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(app, hub)
    for number in range(events.BATCH_SIZE + 1):
        dispatcher.send("task-sent", uuid=str(number))
    hub.fire()
    assert [len(batch) for _, batch in producer.taken] == [events.BATCH_SIZE, 1]


def test_events_of_the_worker_leave_at_once(app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(app, hub)
    dispatcher.send("task-started", uuid="1")
    dispatcher.send("worker-heartbeat", freq=2.0, retry=True)
    assert [(key, event["type"]) for key, event in producer.taken] == [("worker.heartbeat", "worker-heartbeat")]


def test_without_an_event_loop_each_leaves_at_once(app: Celery) -> None:
    dispatcher, producer = make(app)
    dispatcher.send("task-started", uuid="1")
    assert [(key, event["uuid"]) for key, event in producer.taken] == [("task.started", "1")]


def test_what_a_monitor_turned_off_is_not_gathered(app: Celery, hub: Hub) -> None:
    dispatcher, _ = make(app, hub)
    dispatcher.groups = {"worker"}
    dispatcher.send("task-started", uuid="1")
    assert hub.due == []
    dispatcher.groups = set()
    dispatcher.disable()
    dispatcher.send("task-started", uuid="1")
    assert hub.due == []


def test_events_wait_for_a_broker_that_is_away(
    app: Celery, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "BATCH_SIZE", 3)
    dispatcher, producer = make(app, hub)
    producer.error = ConnectionError("refused")
    dispatcher.send("worker-online")
    for number in range(7):
        dispatcher.send("task-started", uuid=str(number))
    producer.attempts = 0
    hub.fire()
    # One look, not one for each event: each may take as long as a time-out.
    assert producer.attempts == 1
    assert [delay for delay, _ in hub.due] == [events.RETRY_INTERVAL]
    hub.fire()
    dispatcher.send("task-started", uuid="7")
    producer.error = None
    hub.fire()
    assert producer.taken[0][1]["type"] == "worker-online"
    assert producer.job_events == [str(number) for number in range(8)]
    assert hub.due == []
    assert [record.getMessage() for record in caplog.records] == [
        "events wait for the broker: ConnectionError('refused')"
    ]


def test_the_newest_are_kept(app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(app, hub)
    producer.error = ConnectionError()
    for number in range(events.KEPT_JOB_EVENTS + 5):
        dispatcher.send("task-started", uuid=str(number))
    for _ in range(events.KEPT_WORKER_EVENTS + 5):
        dispatcher.send("worker-heartbeat")
    hub.fire()
    for number in range(events.KEPT_JOB_EVENTS + 5, events.KEPT_JOB_EVENTS + 10):
        dispatcher.send("task-started", uuid=str(number))
    producer.error = None
    hub.fire()
    assert producer.job_events == [str(number) for number in range(10, events.KEPT_JOB_EVENTS + 10)]
    assert sum(key == "worker.heartbeat" for key, _ in producer.taken) == events.KEPT_WORKER_EVENTS


def test_the_next_connection_goes_on_with_what_waits(app: Celery, hub: Hub) -> None:
    before, producer = make(app, hub)
    producer.error = ConnectionError()
    before.send("task-started", uuid="1")
    hub.fire()
    hub.due.clear()
    before.disable()
    after, producer = make(app, hub)
    after.extend_buffer(before)
    after.flush_on_timer(hub)
    hub.fire()
    assert producer.job_events == ["1"]


def test_an_event_that_cannot_be_encoded_takes_no_other_along(
    app: Celery, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher, producer = make(app, hub)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for uuid, odd in (("1", 1), ("2", object()), ("3", deep), ("4", "\ud800")):
        dispatcher.send("task-started", uuid=uuid, odd=odd)
    dispatcher.send("worker-odd", odd=object())
    hub.fire()
    assert producer.job_events == ["1", "4"]
    assert hub.due == []
    assert all("dropped an event" in record.getMessage() for record in caplog.records)


def test_a_publication_is_what_kombu_would_encode(app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(app, hub)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    texts = {"uuid": 'ü "\\ \u2028', "eta": None, "retries": 0, "runtime": 0.1 + 0.2, "big": 2**70}
    for fields in (texts, texts | {"when": when}, texts | {"text": "\ud800"}):
        dispatcher.send("task-received", **fields)
        hub.fire()
    sent = [batch[0] for _, batch in producer.taken]
    assert [{name: one[name] for name in texts} for one in sent] == [texts] * 3
    # kombu's notations for what JSON has none for, and for half a surrogate pair.
    assert loads(json.dumps(sent[1]))["when"] == when
    assert sent[2]["text"] == "\ud800"


def test_events_of_one_moment(app: Celery, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share clock and time, and are otherwise as if each had been sent by itself, in the order of all events."""
    monkeypatch.setattr(events, "MOMENT", 60.0)
    dispatcher, producer = make(app, hub)
    dispatcher.send_text("task-received", '"uuid":"1","eta":null')
    dispatcher.send_text("task-received", '"uuid":"2"')
    dispatcher.send("task-retried", uuid="2")
    dispatcher.send_text("task-started", '"uuid":"1"')
    dispatcher.send_text("task-received", '"uuid":"3"')
    dispatcher.groups = {"worker"}
    dispatcher.send_text("task-succeeded", '"uuid":"1"')
    hub.fire()
    [(_, sent)] = producer.taken
    assert [(one["type"], one["uuid"]) for one in sent] == [
        ("task-received", "1"),
        ("task-received", "2"),
        ("task-retried", "2"),
        ("task-started", "1"),
        ("task-received", "3"),
    ]
    clocks = [one["clock"] for one in sent]
    assert clocks == sorted(clocks)
    assert len(set(clocks)) == 4
    assert sent[0]["clock"] == sent[1]["clock"]
    assert sent[0].pop("eta", 0) is None
    assert sent[0].keys() == sent[2].keys()


def test_events_as_text_in_another_notation(app: Celery, hub: Hub) -> None:
    """Where another event of the publication needs kombu's JSON, all are encoded by it."""
    dispatcher, producer = make(app, hub)
    dispatcher.send_text("task-started", '"uuid":"1"')
    dispatcher.send("task-received", uuid="2", when=datetime(2026, 1, 2, tzinfo=UTC))
    dispatcher.send("task-received", uuid="3", odd=object())
    hub.fire()
    assert producer.job_events == ["1", "2"]


def test_nothing_raises_into_a_job(app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(app, hub)
    dispatcher.send("task-started", hostname="given twice")
    dispatcher.send("worker-started", hostname="given twice")
    assert hub.due == []
    producer.error = RuntimeError("anything")
    dispatcher.publish("task-sent", {"uuid": "1"}, producer)
    dispatcher.send("worker-heartbeat")


def test_a_broker_that_cannot_be_reached_raises_into_no_job(app: Celery, absent_url: str) -> None:
    with Celery("events", broker=absent_url, set_as_current=False) as away:
        away.conf.broker_transport_options = {"socket_connect_timeout": 1}
        away.events_cls = app.events_cls
        with away.events.default_dispatcher() as dispatcher:
            dispatcher.send("task-progress", uuid="1", retry=True, retry_policy={"max_retries": 1})


def test_the_soft_time_limit_is_not_taken_for_a_broker(app: Celery) -> None:
    dispatcher, producer = make(app)
    producer.error = SoftTimeLimitExceeded()
    with pytest.raises(SoftTimeLimitExceeded):
        dispatcher.send("task-progress", uuid="1")
    with pytest.raises(SoftTimeLimitExceeded), app.events.default_dispatcher():
        raise SoftTimeLimitExceeded
