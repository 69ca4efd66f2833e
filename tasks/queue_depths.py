"""Depths of the broker's queues: how many messages each one has, and the oldest of them. Takes none out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import ResponseError

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.tasks.transport.kombu_parts import redis as kombu_redis


@dataclass(frozen=True)
class RedisDepth:
    """Messages of a queue in Redis, all priorities together."""

    name: str
    waiting: int
    #: Moved by a worker at this moment, and not recorded as unacknowledged yet.
    claimed: int
    #: The oldest waiting message of each priority that has one.
    oldest: list[bytes | str]


def priority_keys(queue: str, prefix: str) -> list[str]:
    """Return the lists of a queue, one for each priority, the one that is taken from first at the beginning."""
    channel = kombu_redis.Channel
    return [f"{prefix}{queue}{channel.sep}{step}" if step else f"{prefix}{queue}" for step in channel.priority_steps]


def read_depths(server: "redis.Redis", names: Sequence[str], prefix: str) -> Iterator[RedisDepth]:
    """Yield the depth of each queue, read in one round trip.

    A queue that somebody else named is left out if a key of another type has its name. Raises RedisError.
    """
    with server.pipeline(transaction=False) as pipeline:
        for queue in names:
            for key in priority_keys(queue, prefix):
                pipeline.llen(key)
                pipeline.llen(f"{key}.claimed")
                pipeline.lindex(key, -1)
        replies = pipeline.execute(raise_on_error=False)
    size = len(replies) // len(names)
    for index, queue in enumerate(names):
        own: list[Any] = replies[index * size : (index + 1) * size]
        if refused := next((reply for reply in own if isinstance(reply, ResponseError)), None):
            if queue in QUEUES:
                raise refused
            continue
        yield RedisDepth(queue, sum(own[::3]), sum(own[1::3]), [raw for raw in own[2::3] if raw is not None])


def count_messages(connection: Any, queue: str) -> int:
    """Return how many messages of a queue wait in RabbitMQ, 0 for one that was never declared.

    Raises the connection errors of kombu's connection.
    """
    try:
        # Asking for a queue that was never declared closes the channel.
        with connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0
