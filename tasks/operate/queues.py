"""Queues of the broker: their depths, the messages that wait, the oldest first, and emptying one.

The lists of Redis can be read without taking anything from them. RabbitMQ tells how many messages there are, no more.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

import redis
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError, ResponseError

from pattern_storage.config.broker import UNACKED_KEYS
from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.storage.job_options import QUEUE_NAME
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.result_document import read_document, result_key
from pattern_storage.tasks.errors import BrokerUnavailable, QueueUnreadable
from pattern_storage.tasks.operate.waiting_message import WaitingMessage, message_of, read_message
from pattern_storage.tasks.queue_depths import count_messages, priority_keys, read_depths
from pattern_storage.tasks.queue_names import RESERVED, SHORT, find_names
from pattern_storage.tasks.redis_errors import explain_failure
from pattern_storage.tasks.sender import create_app
from pattern_storage.vocabulary import FINAL_STATES, JobState, ListedState

#: Messages that are read in one round trip; one may have megabytes, most have a kilobyte.
CHUNK = 200
#: Messages in flight that are read at most: a worker may hold thousands of jobs that wait for a retry.
MAX_IN_FLIGHT = 2_000
#: Seconds that one call may search a queue for messages that a filter lets through; the next one goes on from there.
SEARCH_SECONDS = 0.08


@dataclass(frozen=True)
class QueueDepth:
    """Numbers of a queue's messages: waiting, claimed at this moment, and taken by workers but not acknowledged.

    RabbitMQ tells only how many wait; the rest is None.
    """

    name: str
    waiting: int
    claimed: int | None
    unacked: int | None
    oldest_at: datetime | None


@dataclass(frozen=True)
class WaitingPage:
    """Messages of a page, how many wait in all, and the offset of the next page; None at the end."""

    messages: list[WaitingMessage]
    total: int
    next: int | None


class RedisQueues:
    """The queues of a Redis broker. Each method raises BrokerUnavailable if the server does not answer."""

    def __init__(self, settings: Settings, server: "redis.Redis", results: "redis.Redis") -> None:
        self._settings, self._server, self._results = settings, server, results
        self._prefix = settings.key_prefix

    def names(self, known: Iterable[str] = (), *, seconds: float = SHORT) -> tuple[str, ...]:
        """Return the names of all queues, ours first; see `queue_names`."""
        with broker_errors():
            return find_names(self._settings, self._server, known, seconds=seconds)

    def depths(self, known: Iterable[str] = (), *, seconds: float = SHORT) -> list[QueueDepth]:
        """Return the depth of each queue: ours, those that the caller knows of, and others in which something waits."""
        known = {*QUEUES, *known}
        in_flight = [message.queue for message in self.in_flight()]
        names = self.names({*known, *filter(QUEUE_NAME.fullmatch, in_flight)}, seconds=seconds)
        found: list[QueueDepth] = []
        with broker_errors():
            for depth in read_depths(self._server, names, self._prefix):
                sent = [read_message(raw, depth.name).sent_at for raw in depth.oldest]
                oldest_at = min((at for at in sent if at is not None), default=None)
                unacked = in_flight.count(depth.name)
                found.append(QueueDepth(depth.name, depth.waiting, depth.claimed, unacked, oldest_at))
        return [depth for depth in found if depth.name in known or depth.waiting or depth.unacked]

    def refused(self, queues: Iterable[str]) -> dict[str, int]:
        """Return the lists of messages that workers refused from these queues, and how many each has."""
        keys = [f"{key}.unreadable" for queue in queues for key in priority_keys(queue, self._prefix)]
        with broker_errors(), self._server.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.llen(key)
            # A key that may not be read, or that is no list, is none of ours.
            lengths = pipeline.execute(raise_on_error=False)
        return {key: length for key, length in zip(keys, lengths, strict=True) if isinstance(length, int) and length}

    def knows(self, queue: str) -> bool:
        """Whether there is such a queue: jobs wait in it, or a worker has ever taken from it."""
        if RESERVED.search(queue):
            return False
        with broker_errors():
            try:
                bound = self._server.smembers(f"{self._prefix}_kombu.binding.{queue}")
                return bool(bound) or any(self._server.llen(key) for key in priority_keys(queue, self._prefix))
            except ResponseError:
                # A key of that name, but no list.
                return False

    def waiting(self, queue: str, wanted: JobFilter | None = None, *, offset: int = 0, limit: int = 50) -> WaitingPage:
        """Return a page of the messages that wait in a queue, in the order in which they will be taken.

        Offsets move on as workers take messages. With a filter a page may end early, with the offset to go on from.
        """
        deadline = time.monotonic() + SEARCH_SECONDS
        messages: list[WaitingMessage] = []
        place = offset
        with broker_errors():
            lengths, total = self._lengths(queue)
            while place < total and len(messages) < limit and (place == offset or time.monotonic() < deadline):
                chunk = self._read(lengths, place, CHUNK if wanted else min(CHUNK, limit - len(messages)))
                if not chunk:
                    break
                for raw in chunk:
                    place += 1
                    message = read_message(raw, queue)
                    if wanted is None or message.matches(wanted):
                        messages.append(message)
                        if len(messages) == limit:
                            break
        return WaitingPage(messages, total, place if place < total else None)

    def in_flight(self) -> list[WaitingMessage]:
        """Return the messages that workers have taken and not acknowledged: STARTED, RETRY, or QUEUED in a worker."""
        messages: list[WaitingMessage] = []
        with broker_errors():
            key = f"{self._prefix}{UNACKED_KEYS['unacked_key']}"
            for _, raw in self._server.hscan_iter(key, count=CHUNK):
                try:
                    message, _, routing_key = json.loads(raw)
                except (ValueError, TypeError, RecursionError):
                    continue
                messages.append(message_of(message, str(routing_key)))
                if len(messages) >= MAX_IN_FLIGHT:
                    break
            states = self._states([message.id for message in messages])
        return [replace(message, state=state) for message, state in zip(messages, states, strict=True)]

    def elements(self, queue: str) -> Iterator[bytes | str]:
        """Yield the raw messages that wait in a queue, read in steps: a worker may take some of them meanwhile."""
        with broker_errors():
            place, (lengths, total) = 0, self._lengths(queue)
            while place < total and (chunk := self._read(lengths, place, CHUNK)):
                yield from chunk
                place += len(chunk)

    def take(self, queue: str, limit: int) -> list[WaitingMessage]:
        """Take the next messages out of a queue for good; return them, none if it is empty."""
        taken: list[bytes | str] = []
        with broker_errors():
            for key in priority_keys(queue, self._prefix):
                if len(taken) < limit:
                    taken += cast("list[bytes | str] | None", self._server.rpop(key, limit - len(taken))) or []
        return [read_message(raw, queue) for raw in taken]

    def _lengths(self, queue: str) -> tuple[list[tuple[str, int]], int]:
        """Return the length of each list of a queue, and their sum."""
        lengths = [(key, self._server.llen(key)) for key in priority_keys(queue, self._prefix)]
        return lengths, sum(length for _, length in lengths)

    def _read(self, lengths: Sequence[tuple[str, int]], place: int, count: int) -> list[bytes | str]:
        """Return elements from `place` on, of the list that it is in; the oldest element is the last of a list."""
        for key, length in lengths:
            if place < length:
                return list(reversed(self._server.lrange(key, -(place + count), -(place + 1))))
            place -= length
        return []

    def _states(self, ids: Sequence[str]) -> list[ListedState]:
        """Return the states of jobs that workers have."""
        if not ids:
            return []
        known: dict[str, ListedState] = {
            JobState.STARTED: ListedState.STARTED,
            JobState.PROGRESS: ListedState.STARTED,
            JobState.RETRY: ListedState.RETRY,
            # Cancelled while a worker has its message, or about to be acknowledged.
            **{JobState(state): ListedState(state) for state in FINAL_STATES},
        }
        documents = self._results.mget([result_key(job, self._prefix) for job in ids])
        results = [None if document is None else read_document(document) for document in documents]
        return [known.get(result["status"] if result else "", ListedState.QUEUED) for result in results]


@contextmanager
def redis_queues(settings: Settings) -> Iterator[RedisQueues]:
    """Open the queues of a Redis broker. Raises QueueUnreadable for another broker."""
    if not settings.broker_kind.is_redis:
        raise QueueUnreadable(f"{settings.broker_kind.name} does not show what waits in a queue, only how many")
    with redis_connections.connect(settings, settings.broker) as server, redis_connections.connect(settings) as results:
        yield RedisQueues(settings, server, results)


def depths(settings: Settings, known: Iterable[str] = (), *, seconds: float = SHORT) -> list[QueueDepth]:
    """Return the depth of each queue, on Redis also of those with other names. Raises BrokerUnavailable."""
    if settings.broker_kind.is_redis:
        with redis_queues(settings) as queues:
            return queues.depths(known, seconds=seconds)
    with broker_errors(), closing(create_app(settings)) as app, app.connection_for_read() as connection:
        connection.connect()
        return [QueueDepth(queue, count_messages(connection, queue), None, None, None) for queue in QUEUES]


@contextmanager
def broker_errors() -> Iterator[None]:
    """Raise the errors of a broker, whichever library it is reached with, as BrokerUnavailable."""
    try:
        yield
    except ResponseError as error:
        raise BrokerUnavailable(f"the queue cannot be read: {error}") from error
    except (RedisError, OperationalError, OSError) as error:
        raise BrokerUnavailable(explain_failure("the queue", error)) from error
