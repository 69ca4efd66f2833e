"""Queues as the broker has them: how much waits in each, since when, and what. Reading changes nothing."""

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pattern_storage.config.celeryconfig import IMPORT_TASK, QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.tasks.client.publisher import BROKER_ERRORS
from pattern_storage.tasks.description import describe_call
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.imports.publisher import describe_run
from pattern_storage.tasks.sender import create_app
from pattern_storage.tasks.transport.message import Unreadable, load

#: Bytes of messages that are read for a list: one may be a batch of ten thousand patterns.
BUDGET = 2_000_000


@dataclass(frozen=True)
class QueueState:
    """A queue.

    Attributes:
        name: its name.
        waiting: messages that no worker has taken.
        claimed: messages that a worker takes at this moment; None where the broker does not say.
        oldest: when the message that waits longest was sent, None where nobody knows.
    """

    name: str
    waiting: int
    claimed: int | None = None
    oldest: datetime | None = None


@dataclass(frozen=True)
class WaitingMessage:
    """A message that waits, as far as it can be read; never its arguments."""

    job_id: str
    task: str
    about: str
    sent_at: datetime | None
    priority: int
    size: int


def read_queues(settings: Settings) -> tuple[list[QueueState], int | None]:
    """Return the queues, and the messages that workers have not acknowledged. Raises BrokerUnavailable."""
    with _channel(settings) as channel:
        if not settings.broker_kind.is_redis:
            return [QueueState(name, _declared(channel.connection, name)) for name in QUEUES], None
        keys = {name: [channel._q_for_pri(name, step) for step in channel.priority_steps] for name in QUEUES}
        with channel.client.pipeline(transaction=False) as pipeline:
            for key in (key for each in keys.values() for key in each):
                pipeline.llen(key).llen(f"{key}.claimed").lindex(key, -1)
            *replies, unacked = pipeline.hlen(channel.unacked_key).execute()
        found, replies_of = [], iter(replies)
        for name, own in keys.items():
            waiting, claimed, oldest = 0, 0, []
            for _ in own:
                waiting, claimed = waiting + int(next(replies_of)), claimed + int(next(replies_of))
                if (raw := next(replies_of)) is not None and (message := _read(raw, 0)).sent_at is not None:
                    oldest.append(message.sent_at)
            found.append(QueueState(name, waiting, claimed, min(oldest, default=None)))
        return found, int(unacked)


def read_waiting(settings: Settings, queue: str, limit: int) -> list[WaitingMessage]:
    """Return what a worker would take next, the most urgent first, then the oldest. Raises BrokerUnavailable.

    RabbitMQ shows no message without handing it out: there is nothing then.
    """
    if not settings.broker_kind.is_redis:
        return []
    found: list[WaitingMessage] = []
    size = 0
    with _channel(settings) as channel:
        for step in channel.priority_steps:
            place = -1
            while len(found) < limit and size < BUDGET:
                raw = channel.client.lindex(channel._q_for_pri(queue, step), place)
                if raw is None:
                    break
                found.append(_read(raw, step))
                size, place = size + len(raw), place - 1
    return found


def _read(raw: bytes, priority: int) -> WaitingMessage:
    try:
        message = load(raw)
        headers = message["headers"]
        sent = headers.get("sent_at")
        sent_at = datetime.fromtimestamp(sent, UTC) if isinstance(sent, int | float) and 0 < sent < 1e11 else None
        task = str(headers["task"])
        return WaitingMessage(str(headers["id"]), task, _describe(task, message), sent_at, priority, len(raw))
    except (Unreadable, LookupError, TypeError, AttributeError, ValueError, OverflowError, OSError):
        return WaitingMessage("", "", "a message that cannot be read", None, priority, len(raw))


def _describe(task: str, message: Any) -> str:
    """Return what the job is about, out of its arguments: a producer's own line may hold all of them."""
    _, kwargs, *_ = json.loads(b64decode(message["body"]))
    return describe_run(**kwargs) if task == IMPORT_TASK else describe_call(task, kwargs)


@contextmanager
def _channel(settings: Settings) -> Iterator[Any]:
    app = create_app(settings)
    try:
        with closing(app), app.connection_for_read() as connection:
            connection.connect()
            yield connection.default_channel
    except BROKER_ERRORS as error:
        raise BrokerUnavailable(f"the queue does not answer: {error.__cause__ or error}") from error


def _declared(connection: Any, queue: str) -> int:
    """Return the messages of a queue of RabbitMQ; one that was never declared has none, and costs its channel."""
    try:
        with connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0
