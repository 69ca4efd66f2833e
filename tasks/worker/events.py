"""Events for Flower, sent so that a broker which has gone does not hold the worker."""

from typing import Any

from celery.app import events
from celery.events import EventDispatcher

#: Celery's heartbeat tries without end, holding the dispatcher's lock: a worker whose broker had gone could then not
#: be stopped. One more try renews a broken connection; what is not sent then waits with the other events.
ONCE_MORE = {"max_retries": 1, "interval_start": 0}


class Dispatcher(EventDispatcher):
    """Celery's dispatcher of events, with a bound on its retries."""

    def _publish(self, *event: Any, retry: bool = False, **options: Any) -> Any:
        policy = {"retry": True, "retry_policy": ONCE_MORE} if retry else {}
        return super()._publish(*event, **options | policy)  # type: ignore[misc]  # unknown to celery-types


class Events(events.Events):
    """Celery's `app.events` with that dispatcher."""

    dispatcher_cls = "pattern_storage.tasks.worker.events:Dispatcher"
