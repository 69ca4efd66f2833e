"""Dispatcher of events for Flower: job events leave in one publication each quarter of a second, and harm no job.

Celery publishes the events of each iteration of its event loop, which at a thousand jobs a second takes a third of a
worker's time. Here events about jobs wait for a timer of the same loop; those about the worker leave at once.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from celery import bootsteps
from celery.app import events
from celery.events import EventDispatcher
from celery.events.event import group_from
from celery.exceptions import SoftTimeLimitExceeded
from celery.worker.consumer import Events as EventsStep
from kombu.exceptions import EncodeError
from kombu.serialization import dumps
from pydantic_core import from_json, to_json

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.worker.event_json import encode_events

logger = get_logger(__name__)

#: Celery's heartbeat tries without end while it holds the dispatcher's lock: a worker whose broker had gone could then
#: not be stopped. One more try renews a broken connection; an event that is not sent then waits with the others.
ONCE_MORE = {"max_retries": 1, "interval_start": 0}

#: Seconds that an event about a job waits for others, and that all wait after the broker did not take a publication.
FLUSH_INTERVAL, RETRY_INTERVAL = 0.25, 5.0
#: Events in one publication: a few hundred kilobytes.
BATCH_SIZE = 1_000
#: Seconds within which events of one type get the same time: Flower sees no difference.
MOMENT = 0.001
NO_MOMENT = ("", 0.0, None)
#: The newest events that are kept while the broker is away: about jobs, and about the worker.
KEPT_JOB_EVENTS, KEPT_WORKER_EVENTS = 10_000, 100


class Dispatcher(EventDispatcher):
    """Celery's dispatcher of events, except that it never raises, never retries for ever, and keeps a bounded number.

    Where a worker has an event loop, events about jobs wait for the timer, see `flush_on_timer`; in the processes of
    its pool, and in pools without such a loop, each leaves at once.
    """

    # Celery's, which its type stubs do not know.
    producer: Any
    exchange: Any
    headers: Any
    delivery_mode: Any
    serializer: str
    groups: set[str]
    buffer_group: frozenset[str]
    mutex: Any
    buffer_while_offline: bool
    _closed: bool
    _outbound_buffer: Any
    _prepare_event: Callable[..., dict[str, Any]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Celery's own buffer has no bound; without it, its class raises.
        self._keeps, self.buffer_while_offline = self.buffer_while_offline and self.enabled, False
        self._outbound_buffer = deque(maxlen=KEPT_WORKER_EVENTS)
        #: Each a dictionary, or JSON already.
        self._job_events: deque[dict[str, Any] | str] = deque(maxlen=KEPT_JOB_EVENTS)
        self._hub: Any = None
        self._flush_is_due = False
        self._broker_is_away = False
        #: Type and end of the moment, and the JSON with which its events begin; None for a type that is not sent.
        self._moment: tuple[str, float, str | None] = NO_MOMENT

    def flush_on_timer(self, hub: Any) -> None:
        """Let job events wait for a timer of the worker's event loop from now on."""
        self._hub = hub
        if self._job_events:
            self._call_flush()

    def send(self, type: str, *args: Any, **fields: Any) -> None:  # noqa: A002  # Celery's name for it
        """Send an event now, or let it wait for the timer if it is about a job."""
        self._moment = NO_MOMENT
        try:
            if (group := group_from(type)) not in self.buffer_group:
                super().send(type, *args, **fields)
            elif self.enabled and (not self.groups or group in self.groups):
                self._job_events.append(self._prepare_event(type, fields))
                self._call_flush()
        except SoftTimeLimitExceeded:
            raise
        except Exception as error:
            logger.warning("cannot send the event %s: %r", type, error)

    def send_text(self, type: str, fields: str) -> None:  # noqa: A002  # Celery's name for it
        """Let an event about a job wait for the timer; `fields` are its own fields as JSON, without braces.

        Events that follow each other within one moment have the same time and clock, and begin with the same text.
        """
        # One reading of all three: with a pool of threads others begin moments of their own.
        begun, until, text = self._moment
        if type != begun or time.time() > until:
            text = self._begin_moment(type)
        if text is not None:
            self._job_events.append(f"{text},{fields}}}")
            if not self._flush_is_due:
                self._call_flush()

    def _begin_moment(self, type: str) -> str | None:  # noqa: A002
        text = None
        if self.enabled and (not self.groups or group_from(type) in self.groups):
            text = to_json(self._prepare_event(type, {}))[:-1].decode()
        self._moment = type, time.time() + MOMENT, text
        return text

    def _call_flush(self) -> None:
        if self._hub is not None and not self._flush_is_due:
            self._flush_is_due = True
            self._hub.call_later(RETRY_INTERVAL if self._broker_is_away else FLUSH_INTERVAL, self._flush_now)

    def _flush_now(self) -> None:
        self._flush_is_due = False
        self.flush()
        if self._job_events:
            self._call_flush()

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Publish the events that wait, in order, as long as the broker takes them; the rest goes on waiting."""
        with self.mutex:
            if self._closed:
                return
            for _ in range(len(self._outbound_buffer) if errors else 0):
                event, routing_key = self._outbound_buffer.popleft()
                if not self._publish(event, self.producer, routing_key):
                    return
            while groups and self._job_events:
                # Other threads may append meanwhile.
                batch = [self._job_events.popleft() for _ in range(min(len(self._job_events), BATCH_SIZE))]
                if not self._publish(batch, self.producer, "task.multi", retry=True):
                    room = KEPT_JOB_EVENTS - len(self._job_events)
                    self._job_events.extendleft(reversed(batch[-room:] if room else []))
                    return

    def _publish(self, event: Any, producer: Any, routing_key: str, retry: bool = False, **options: Any) -> bool:
        """Publish an event or a list of events; return whether the broker took it. If not, keep it where possible."""
        policy = {"retry": True, "retry_policy": ONCE_MORE} if retry else {}
        try:
            text = encode_events(event) if isinstance(event, list) and self.serializer == "json" else None
            if text is not None:
                producer.publish(
                    text, content_type="application/json", content_encoding="utf-8", routing_key=routing_key,
                    exchange=self.exchange.name, declare=[self.exchange], headers=self.headers,
                    delivery_mode=self.delivery_mode, **options | policy,
                )  # fmt: skip
            else:
                if isinstance(event, list):
                    event = [from_json(part) if isinstance(part, str) else part for part in event]
                super()._publish(event, producer, routing_key, **options | policy)  # type: ignore[misc]  # unknown to celery-types
        except SoftTimeLimitExceeded:
            raise
        except EncodeError as error:
            # It would be refused every time, and hold up all events behind it.
            logger.warning("dropped an event that is no %s: %s", self.serializer, error)
            # All are dictionaries by now.
            rest = [part for part in event if self._is_encodable(part)] if isinstance(event, list) else []
            return not rest or self._publish(rest, producer, routing_key, retry, **options)
        except Exception as error:
            if not self._broker_is_away:
                logger.warning("events wait for the broker: %r", error)
            self._broker_is_away = True
            if self._keeps and isinstance(event, dict):
                self._outbound_buffer.append((event, routing_key))
            return False
        self._broker_is_away = False
        return True

    def _is_encodable(self, event: Any) -> bool:
        with suppress(EncodeError):
            dumps(event, self.serializer)
            return True
        return False

    def extend_buffer(self, other: Any) -> None:
        """Take over the events of another dispatcher, whose connection to the broker was lost."""
        super().extend_buffer(other)
        self._job_events.extend(other._job_events)


class Events(events.Events):
    """Celery's `app.events` with our dispatcher."""

    dispatcher_cls = "pattern_storage.tasks.worker.events:Dispatcher"

    @contextmanager
    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Iterator[Any]:
        """Yield a dispatcher for the events of a job; it sends nothing if the broker cannot be reached."""
        app: Any = self.app
        with ExitStack() as stack:
            try:
                producer = stack.enter_context(app.amqp.producer_pool.acquire(block=True))
                # Celery itself retries for seconds.
                producer.connection.ensure_connection(**ONCE_MORE)
                dispatcher = self.Dispatcher(
                    producer.connection, hostname, enabled, producer.channel, buffer_while_offline
                )
            except SoftTimeLimitExceeded:
                raise
            except Exception as error:
                logger.warning("cannot send events: %r", error)
                dispatcher = self.Dispatcher(enabled=False)
            yield stack.enter_context(dispatcher)


class FlushEvents(bootsteps.StartStopStep):
    """Consumer bootstep of a worker: events leave by the timer of its event loop, the last ones when it has ended."""

    requires = (EventsStep,)

    def start(self, c: Any) -> None:
        """Hand the event loop over, for each connection to the broker anew."""
        if c.hub and c.event_dispatcher:
            c.event_dispatcher.flush_on_timer(c.hub)

    def stop(self, c: Any) -> None:
        """Do nothing: the events that wait go to the dispatcher of the next connection."""

    def shutdown(self, c: Any) -> None:
        """Flush after the pool has ended, while the connection is still open."""
        if c.event_dispatcher:
            c.event_dispatcher.flush()
