"""Events of workers, as Flower receives them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from celery import Celery
from celery.events import EventReceiver

from tests.fix_process import DEADLINE, wait_until

EventOf = Callable[..., dict[str, Any]]


@contextmanager
def listening(redis_url: str) -> Iterator[EventOf]:
    """Receive events; wait for the first of a kind and job, and of a condition, with the function it yields."""
    events: list[dict[str, Any]] = []
    ready = Event()

    class Listener(EventReceiver):
        def on_consume_ready(self, *_: Any, **__: Any) -> None:
            ready.set()

    app = Celery("listener", broker=redis_url, set_as_current=False)
    with app.connection_for_read() as connection:
        listener = Listener(connection, handlers={"*": events.append}, app=app)
        thread = Thread(target=listener.capture, kwargs={"limit": None, "timeout": None, "wakeup": False})
        thread.start()
        assert ready.wait(DEADLINE)

        def event(kind: str, job_id: Any, where: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
            wanted = (kind, str(job_id))

            def first() -> dict[str, Any] | None:
                of_job = (each for each in events if (each["type"], each.get("uuid")) == wanted)
                return next(filter(where, of_job), None)

            return dict(wait_until(first, f"event {wanted}"))

        try:
            yield event
        finally:
            listener.should_stop = True
            thread.join()
