"""Publisher for a Redis broker: messages and QUEUED markers of a chunk in one round trip on a kept connection.

kombu builds a new Redis client for each batch, which alone takes as long as all of this. Elements of the queue are
kombu's, byte for byte what its transport would push (`tasks.client.message`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import redis
import redis.asyncio
from redis.exceptions import RedisError

from pattern_storage.config.settings import Settings
from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.tasks.client.listener import cancellable
from pattern_storage.tasks.client.message import build_message, encode_for_redis
from pattern_storage.tasks.client.status import queued_marker
from pattern_storage.tasks.errors import BrokerUnavailable

#: Messages in one round trip: more gains nothing measurable and delays the first.
CHUNK = 500
#: Bytes after which a round trip ends before that: a contract may have megabytes.
CHUNK_BYTES = 4_000_000


class Chunk(NamedTuple):
    """The commands of one round trip: as many LPUSH as messages, then as many SET NX, if they go to the same server."""

    pushes: list[tuple[Any, ...]]
    marks: list[tuple[Any, ...]]

    def queue_on(self, pipeline: Any, *, marks: bool) -> Any:
        """Queue the commands on a pipeline and return it. Pushes come first: a refused job is not QUEUED."""
        for command in (*self.pushes, *self.marks) if marks else self.pushes:
            pipeline.execute_command(*command)
        return pipeline

    def check(self, replies: Sequence[Any]) -> None:
        """Raise BrokerUnavailable if a message was refused; a marker that was is no matter."""
        for reply in replies[: len(self.pushes)]:
            if isinstance(reply, Exception):
                raise refused(reply) from reply


def refused(error: Exception) -> BrokerUnavailable:
    """Return what to raise for redis-py's error about a message."""
    return BrokerUnavailable(f"the queue does not answer: {error}")


def chunks(contracts: Sequence[ModelContractPatternStorage], settings: Settings) -> Iterator[Chunk]:
    """Yield the commands that publish these contracts, in order."""
    pushes: list[tuple[Any, ...]] = []
    marks: list[tuple[Any, ...]] = []
    size = 0
    for contract in contracts:
        message = build_message(contract)
        element = encode_for_redis(message)
        pushes.append(("LPUSH", f"{settings.key_prefix}{message.queue}", element))
        marks.append(queued_marker(contract, settings))
        size += len(element)
        if len(pushes) >= CHUNK or size >= CHUNK_BYTES:
            yield Chunk(pushes, marks)
            pushes, marks, size = [], [], 0
    if pushes:
        yield Chunk(pushes, marks)


class RedisPublisher:
    """Publishes from threads, each on a connection of its own while it does; forked processes get new connections.

    Args:
        broker: where the queue is.
        results: where the QUEUED markers go; the same object as `broker` where it is the same server.
        settings: for the lifetime of a marker.
    """

    def __init__(self, broker: "redis.Redis", results: "redis.Redis", settings: Settings) -> None:
        self._broker, self._results, self._settings = broker, results, settings

    def close(self) -> None:
        """Close all connections to the broker."""
        self._broker.close()

    def publish(self, contracts: Sequence[ModelContractPatternStorage]) -> None:
        """Send the contracts. Raises BrokerUnavailable, then some may have been sent."""
        together = self._broker is self._results
        for chunk in chunks(contracts, self._settings):
            try:
                with self._broker.pipeline(transaction=False) as pipeline:
                    replies = chunk.queue_on(pipeline, marks=together).execute(raise_on_error=False)
            except (RedisError, OSError) as error:
                raise refused(error) from error
            chunk.check(replies)
            if not together:
                mark_queued(self._results, chunk.marks)


class AsyncRedisPublisher:
    """The same with await, on one event loop and without a thread."""

    def __init__(self, broker: "redis.asyncio.Redis", results: "redis.asyncio.Redis", settings: Settings) -> None:
        self._broker, self._results, self._settings = broker, results, settings

    async def close(self) -> None:
        """Close all connections to the broker."""
        await self._broker.aclose()

    async def publish(self, contracts: Sequence[ModelContractPatternStorage]) -> None:
        """Send the contracts. Raises BrokerUnavailable, then some may have been sent."""
        together = self._broker is self._results
        for chunk in chunks(contracts, self._settings):
            try:
                async with self._broker.pipeline(transaction=False) as pipeline:
                    replies = await cancellable(chunk.queue_on(pipeline, marks=together).execute(raise_on_error=False))
            except (RedisError, OSError) as error:
                raise refused(error) from error
            chunk.check(replies)
            if not together:
                try:
                    async with self._results.pipeline(transaction=False) as pipeline:
                        await cancellable(
                            Chunk([], chunk.marks).queue_on(pipeline, marks=True).execute(raise_on_error=False)
                        )
                except (RedisError, OSError):
                    continue


def mark_queued(results: "redis.Redis", marks: Sequence[tuple[Any, ...]]) -> None:
    """Send the markers; a result backend that is down takes nothing back of what was accepted."""
    try:
        with results.pipeline(transaction=False) as pipeline:
            Chunk([], list(marks)).queue_on(pipeline, marks=True).execute(raise_on_error=False)
    except (RedisError, OSError):
        pass
