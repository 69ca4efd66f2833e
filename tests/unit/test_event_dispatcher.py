"""The dispatcher of events: job events wait for a timer and leave together, encoded as kombu would."""

import json
from datetime import UTC, datetime

import pytest
from celery import Celery
from kombu.utils.json import loads

from pattern_storage.tasks.worker import events
from tests.fix_dispatcher import Hub, make


def test_job_events_leave_together_when_the_timer_fires(events_app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(events_app, hub)
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


def test_a_publication_is_bounded(events_app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(events_app, hub)
    for number in range(events.BATCH_SIZE + 1):
        dispatcher.send("task-sent", uuid=str(number))
    hub.fire()
    assert [len(batch) for _, batch in producer.taken] == [events.BATCH_SIZE, 1]


def test_events_of_the_worker_leave_at_once(events_app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(events_app, hub)
    dispatcher.send("task-started", uuid="1")
    dispatcher.send("worker-heartbeat", freq=2.0, retry=True)
    assert [(key, event["type"]) for key, event in producer.taken] == [("worker.heartbeat", "worker-heartbeat")]


def test_without_an_event_loop_each_leaves_at_once(events_app: Celery) -> None:
    dispatcher, producer = make(events_app)
    dispatcher.send("task-started", uuid="1")
    assert [(key, event["uuid"]) for key, event in producer.taken] == [("task.started", "1")]


def test_what_a_monitor_turned_off_is_not_gathered(events_app: Celery, hub: Hub) -> None:
    dispatcher, _ = make(events_app, hub)
    dispatcher.groups = {"worker"}
    dispatcher.send("task-started", uuid="1")
    assert hub.due == []
    dispatcher.groups = set()
    dispatcher.disable()
    dispatcher.send("task-started", uuid="1")
    assert hub.due == []


def test_a_publication_is_what_kombu_would_encode(events_app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(events_app, hub)
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


def test_events_of_one_moment(events_app: Celery, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share clock and time, and are otherwise as if each had been sent by itself, in the order of all events."""
    monkeypatch.setattr(events, "MOMENT", 60.0)
    dispatcher, producer = make(events_app, hub)
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


def test_events_as_text_in_another_notation(events_app: Celery, hub: Hub) -> None:
    """Where another event of the publication needs kombu's JSON, all are encoded by it."""
    dispatcher, producer = make(events_app, hub)
    dispatcher.send_text("task-started", '"uuid":"1"')
    dispatcher.send("task-received", uuid="2", when=datetime(2026, 1, 2, tzinfo=UTC))
    dispatcher.send("task-received", uuid="3", odd=object())
    hub.fire()
    assert producer.job_events == ["1", "2"]
