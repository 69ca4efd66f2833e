"""Choice of the publisher for a broker, and the publisher that goes through kombu, for RabbitMQ."""

import math
import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import redis
from celery.app.amqp import task_message
from kombu import Exchange
from kombu.exceptions import BatchPublishError, LimitExceeded, OperationalError  # type: ignore[attr-defined]  # new in 5.7
from kombu.transport.native_delayed_delivery import calculate_routing_key
from redis.exceptions import RedisError

from pattern_storage.config.sentinel import is_sentinel
from pattern_storage.config.settings import Settings
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.message import PRIORITY_NUMBERS, build_message
from pattern_storage.tasks.client.outgoing import Outgoing
from pattern_storage.tasks.client.redis_publisher import RedisPublisher, unavailable
from pattern_storage.tasks.client.status import mark_queued
from pattern_storage.tasks.sender import create_app

#: Threads that can publish at the same time; others wait for a connection.
MAX_CONNECTIONS = 10

#: RabbitMQ's exchange for delayed messages, which workers declare (kombu.transport.native_delayed_delivery).
DELAYING_EXCHANGE = "celery_delayed_27"

#: Messages that kombu collects before it sends them.
BATCH = 500

#: redis-py's options of connections that `wire.py` uses: in RESP 2 a server sends nothing but replies.
PLAIN: dict[str, Any] = {"protocol": 2, "retry": None}

BROKER_ERRORS = (OperationalError, LimitExceeded, RedisError, OSError)


def is_direct(settings: Settings) -> bool:
    """Whether kombu is not needed to publish: the broker is Redis at one address, or behind Sentinels."""
    return settings.broker_kind.is_redis and (is_sentinel(settings.broker) or ";" not in settings.broker)


def create_publisher(settings: Settings, results: "redis.Redis") -> "RedisPublisher | KombuPublisher":
    """Return the publisher for the broker of the settings; `results` is a client of the result backend."""
    if not is_direct(settings):
        return KombuPublisher(settings, results)
    same = settings.broker == settings.result_backend
    broker = redis_connections.connect(settings, settings.broker, **PLAIN)
    other = None if same else redis_connections.connect(settings, **PLAIN)
    return RedisPublisher(broker, other, settings)


class KombuPublisher:
    """Publishes through kombu and a private Celery application; a forked process opens its own connections."""

    def __init__(self, settings: Settings, results: "redis.Redis") -> None:
        self._settings, self._results = settings, results
        self._process_id: int | None = None
        self._opening = threading.Lock()

    def _open(self) -> None:
        # Any: celery-types does not know kombu 5.7's batches yet.
        self._app: Any = create_app(self._settings)
        # A pool of its own: every Celery application of the process shares kombu's global pools, which stay open.
        self._connections: Any = self._app.connection_for_write().Pool(limit=MAX_CONNECTIONS)
        self._process_id = os.getpid()

    def close(self) -> None:
        """Close all connections to the broker, unless they belong to a parent process."""
        if self._process_id == os.getpid():
            self._connections.force_close_all()
            self._app.close()
            self._process_id = None

    def publish(self, jobs: Sequence[Outgoing], timeout: float) -> None:
        """Send the jobs. Raises BrokerUnavailable within about `timeout` seconds; some may have been sent."""
        if self._process_id != os.getpid():
            with self._opening:
                # Another thread may have opened them meanwhile.
                if self._process_id != os.getpid():
                    self._open()
        try:
            with self._connections.acquire(block=True, timeout=timeout) as connection:
                connection.connect_timeout = timeout
                # One retry: kombu's default is a hundred, seconds apart.
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=timeout)
                # One retry here too, since a pooled connection may have been lost since its last use.
                send = connection.ensure(connection, self._send, max_retries=1, interval_start=0)
                send(connection, jobs, timeout)
        except BROKER_ERRORS as error:
            raise unavailable(error.__cause__ if isinstance(error.__cause__, Exception) else error) from error
        mark_queued(self._results, [job.correlation_id for job in jobs], self._settings)

    def _send(self, connection: Any, jobs: Sequence[Outgoing], timeout: float) -> None:
        producer = self._app.amqp.Producer(connection, auto_declare=False)
        try:
            with producer.batch(max_size=BATCH):
                for job in jobs:
                    task, queue, headers, body = build_message(job)
                    self._app.amqp.send_task_message(
                        producer,
                        task,
                        task_message(headers, {"correlation_id": headers["id"], "reply_to": ""}, body, None),
                        **self._route(job, queue),
                        serializer="json",
                        retry=False,
                        # Seconds for RabbitMQ's publisher confirm; Redis confirms with its reply.
                        confirm_timeout=timeout,
                    )
        except BatchPublishError as error:
            # kombu knows which errors mean a broken connection, but looks for them unwrapped.
            raise error.__cause__ or error from None

    def _route(self, job: Outgoing, queue: str) -> dict[str, Any]:
        """Return the routing arguments of a job; on RabbitMQ a delayed one goes through the delaying exchange."""
        if self._settings.broker_kind.is_redis:
            return {"queue": queue, "priority": PRIORITY_NUMBERS[job.options.priority]}
        eta = job.options.eta
        # Whole seconds, as kombu's delaying queues need them; rounded up so that no job begins too early.
        seconds = 0 if eta is None else math.ceil((eta - datetime.now(UTC)).total_seconds())
        if seconds <= 0:
            return {"queue": queue}
        return {
            "exchange": Exchange(DELAYING_EXCHANGE, type="topic"),
            "routing_key": calculate_routing_key(seconds, queue),
        }
