"""A real Flower goes on showing and saving everything, whatever the broker gives it for an event."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
from celery import Celery
from celery.events.event import get_exchange
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import Producer

from tests.fix_celery import StorageWorker
from tests.fix_flower import Flower
from tests.fix_odd_events import EVENTS
from tests.fix_process import wait_until

PAGES = ("/", "/workers?json=1", "/tasks", "/metrics", "/api/workers", "/api/tasks", "/api/task/types")
COLUMNS = ("name", "state", "args", "result", "received", "runtime", "worker", "retries", "eta", "exception")

Publish = Callable[..., None]


@pytest.fixture(scope="module")
def publish(worker: StorageWorker) -> Iterator[Publish]:
    """Put anything on the exchange of events."""
    with Celery("odd", broker=worker.redis_url, set_as_current=False) as app, app.connection_for_write() as connection:
        exchange = get_exchange(connection)
        producer = Producer(connection, exchange)

        def send(body: Any, **options: Any) -> None:
            producer.publish(body, routing_key="task.multi", declare=[exchange], **{"serializer": "json"} | options)

        yield send


def all_is_shown(flower: Flower, publish: Publish) -> None:
    """Return once Flower has taken what was sent before this, and every page of it answers."""
    mark = str(uuid4())
    publish([{"type": "task-received", "uuid": mark, "hostname": "celery@a", "name": "storage.insert"}])
    flower.job(mark, "RECEIVED")
    tables = [
        urlencode({
            "draw": 1, "start": 0, "length": 100, "order[0][column]": 0, "columns[0][data]": name, "order[0][dir]": way,
        })
        for name in COLUMNS
        for way in ("asc", "desc")
    ]  # fmt: skip
    pages = [*PAGES, *(f"/tasks/datatable?{table}" for table in tables), f"/task/{mark}", "/task/a", "/worker/celery@a"]
    tasks = flower.ask("/api/tasks?limit=100").json
    pages += [f"/task/{quote(uuid, safe='')}" for uuid in list(tasks)[-5:]]
    wrong = {page: answer for page in pages if (answer := flower.ask(page)).status >= 500}
    assert wrong == {}


def test_odd_events_of_each_kind(flower: Flower, publish: Publish) -> None:
    about = {"type": "task-started", "uuid": "odd", "hostname": "celery@a"}
    for field in ("children", "event", "state", "timestamp", "clock", "received", "name", "args", "worker", "root_id"):
        for value in (5, "text", None, [1], {"a": 1}, 1e300, float("nan"), "\ud800"):
            publish(about | {field: value})
    publish({"type": "worker-heartbeat", "hostname": "celery@a", "freq": "x", "loadavg": 5, "heartbeats": 5, "pid": []})
    bodies: list[Any] = [None, 5, "text", [], {}, [None, 5, [], {}], {"type": 5}, [{"type": "task-sent"}]]
    for body in bodies:
        publish(body)
    publish("no json", content_type="application/json", content_encoding="utf-8", serializer=None)
    publish("no type", content_type="application/x-unheard-of", content_encoding="utf-8", serializer=None)
    all_is_shown(flower, publish)
    flower.remembers()
    log = flower.group.text()
    assert "Failed to capture events" not in log
    assert "Traceback" not in log


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(EVENTS, min_size=5, max_size=40))
def test_any_events(flower: Flower, publish: Publish, events: list[Any]) -> None:
    publish(events)
    all_is_shown(flower, publish)


def test_it_has_kept_all_of_them(flower: Flower) -> None:
    flower.remembers()
    text = flower.group.text()
    assert "Traceback" not in text, text[-5_000:]
    wait_until(lambda: flower.ask("/api/workers").status == 200, "Flower answers")
