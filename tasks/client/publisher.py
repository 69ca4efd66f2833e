"""Publishers of contracts: the direct one for Redis, and kombu's own way for Sentinel and RabbitMQ."""

import os
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import redis
from celery.app.amqp import task_message
from kombu.exceptions import BatchPublishError, LimitExceeded, OperationalError  # type: ignore[attr-defined]  # new in 5.7
from kombu.pools import ProducerPool
from redis.exceptions import RedisError

from pattern_storage.config.settings import Settings
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.message import build_message
from pattern_storage.tasks.client.outgoing import Outgoing
from pattern_storage.tasks.client.redis_publisher import RedisPublisher
from pattern_storage.tasks.client.status import mark_queued
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.sender import create_app

#: Threads that publish at the same moment; one more waits for one of them.
MAX_CONNECTIONS = 10

#: Messages that kombu collects before it sends them.
BATCH = 500

#: Of redis-py's own connections that we use without it: replies are lines, and nothing comes that was not asked for.
PLAIN: dict[str, Any] = {"protocol": 2, "retry": None}

BROKER_ERRORS = (OperationalError, LimitExceeded, RedisError, OSError)


class Publisher(Protocol):
    """Puts jobs on their queues, and QUEUED markers into the result backend."""

    def publish(self, jobs: Sequence[Outgoing]) -> None:
        """Send the jobs in order. Raises BrokerUnavailable; then some may have been sent."""

    def close(self) -> None:
        """Close all connections to the broker."""


def is_direct(settings: Settings) -> bool:
    """Whether the broker is one Redis server, to which messages can go without kombu."""
    return settings.broker.startswith(("redis://", "rediss://")) and ";" not in settings.broker


def create_publisher(settings: Settings, results: "redis.Redis") -> Publisher:
    """Return the publisher for the broker of the settings; `results` is a client of the result backend."""
    if not is_direct(settings):
        return KombuPublisher(settings, results)
    same = settings.broker == settings.result_backend
    broker = redis_connections.connect(settings, settings.broker, **PLAIN)
    other = None if same else redis_connections.connect(settings, **PLAIN)
    return RedisPublisher(broker, other, settings)


class KombuPublisher:
    """Publishes through a Celery application of its own, so nothing global is touched.

    Its connections belong to the process that opened them: a forked one opens its own.
    """

    def __init__(self, settings: Settings, results: "redis.Redis") -> None:
        self._settings, self._results = settings, results
        self._timeout = settings.connect_timeout
        self._process_id: int | None = None
        self._opening = threading.Lock()

    def _open(self) -> None:
        # celery-types does not know kombu 5.7's batches yet.
        self._app: Any = create_app(self._settings)
        # Of its own: kombu's are shared by every Celery application of the process, and stay open.
        self._connections: Any = self._app.connection_for_write().Pool(limit=MAX_CONNECTIONS)
        self._producers: Any = ProducerPool(self._connections, limit=MAX_CONNECTIONS)
        self._process_id = os.getpid()

    def close(self) -> None:
        """Close all connections to the broker; a parent's are the parent's."""
        if self._process_id == os.getpid():
            self._producers.force_close_all()
            self._connections.force_close_all()
            self._app.close()
            self._process_id = None

    def publish(self, jobs: Sequence[Outgoing]) -> None:
        """Send the jobs. Raises BrokerUnavailable within about the connect timeout; some may have been sent."""
        if self._process_id != os.getpid():
            with self._opening:
                # Threads that race for it get the same one.
                if self._process_id != os.getpid():
                    self._open()
        try:
            with self._producers.acquire(block=True, timeout=self._timeout) as producer:
                # A pooled connection may have died since its last use: one more try tells that from a dead broker.
                send = producer.connection.ensure(producer, self._send, max_retries=1, interval_start=0)
                send(producer, jobs)
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"the queue does not answer: {error.__cause__ or error}") from error
        mark_queued(self._results, [job.correlation_id for job in jobs], self._settings)

    def _send(self, producer: Any, jobs: Sequence[Outgoing]) -> None:
        try:
            with producer.batch(max_size=BATCH):
                for job in jobs:
                    task, queue, headers, body = build_message(job)
                    self._app.amqp.send_task_message(
                        producer,
                        task,
                        task_message(headers, {"correlation_id": headers["id"], "reply_to": ""}, body, None),
                        queue=queue,
                        serializer="json",
                        retry=False,
                        # Seconds until RabbitMQ has to have confirmed it; Redis confirms by answering.
                        confirm_timeout=self._timeout,
                    )
        except BatchPublishError as error:
            # kombu knows which errors mean a broken connection, but looks for them unwrapped.
            raise error.__cause__ or error from None
