"""Events that cannot be sent: they wait for the broker, the newest are kept, and nothing raises into a job."""

from typing import Any

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from pattern_storage.tasks.worker import events
from tests.fix_dispatcher import Hub, make


def test_events_wait_for_a_broker_that_is_away(
    events_app: Celery, hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "BATCH_SIZE", 3)
    dispatcher, producer = make(events_app, hub)
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


def test_the_newest_are_kept(events_app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(events_app, hub)
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


def test_the_next_connection_goes_on_with_what_waits(events_app: Celery, hub: Hub) -> None:
    before, producer = make(events_app, hub)
    producer.error = ConnectionError()
    before.send("task-started", uuid="1")
    hub.fire()
    hub.due.clear()
    before.disable()
    after, producer = make(events_app, hub)
    after.extend_buffer(before)
    after.flush_on_timer(hub)
    hub.fire()
    assert producer.job_events == ["1"]


def test_an_event_that_cannot_be_encoded_takes_no_other_along(
    events_app: Celery, hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher, producer = make(events_app, hub)
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


def test_nothing_raises_into_a_job(events_app: Celery, hub: Hub) -> None:
    dispatcher, producer = make(events_app, hub)
    dispatcher.send("task-started", hostname="given twice")
    dispatcher.send("worker-started", hostname="given twice")
    assert hub.due == []
    producer.error = RuntimeError("anything")
    dispatcher.publish("task-sent", {"uuid": "1"}, producer)
    dispatcher.send("worker-heartbeat")


def test_a_broker_that_cannot_be_reached_raises_into_no_job(events_app: Celery, absent_url: str) -> None:
    with Celery("events", broker=absent_url, set_as_current=False) as away:
        away.conf.broker_transport_options = {"socket_connect_timeout": 1}
        away.events_cls = events_app.events_cls
        with away.events.default_dispatcher() as dispatcher:
            dispatcher.send("task-progress", uuid="1", retry=True, retry_policy={"max_retries": 1})


def test_the_soft_time_limit_is_not_taken_for_a_broker(events_app: Celery) -> None:
    dispatcher, producer = make(events_app)
    producer.error = SoftTimeLimitExceeded()
    with pytest.raises(SoftTimeLimitExceeded):
        dispatcher.send("task-progress", uuid="1")
    with pytest.raises(SoftTimeLimitExceeded), events_app.events.default_dispatcher():
        raise SoftTimeLimitExceeded
