"""Publishers for a Redis broker: messages and QUEUED markers of a chunk in one round trip on a kept connection.

kombu builds a new Redis client for each batch, which alone takes longer than all of this.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

import redis
import redis.asyncio
from redis.exceptions import RedisError

from pattern_storage.config.settings import Settings
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.client.async_wire import AsyncWire
from pattern_storage.tasks.client.outgoing import Outgoing
from pattern_storage.tasks.client.packed import Chunk, chunks
from pattern_storage.tasks.client.shared_wire import SharedWire
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.observability import metrics
from pattern_storage.tasks.redis_errors import explain_failure
from pattern_storage.tasks.wire import Wire, Wires

logger = get_logger(__name__)

#: Chunks that are sent before the reply to the first is read: the server executes one while the next is encoded.
IN_FLIGHT = 2
#: Errors of a server that is down, does not answer, or refuses.
ERRORS = (RedisError, OSError)


def unavailable(error: Exception) -> BrokerUnavailable:
    """Count and log an error of the broker; return the exception to raise for it."""
    metrics.broker_failed()
    sentence = explain_failure("the queue", error)
    logger.warning("cannot enqueue: %s", sentence)
    return BrokerUnavailable(sentence)


class RedisPublisher:
    """Publishes from any number of threads, each on a connection of its own; forked processes get new connections.

    Args:
        broker: client of the server with the queues.
        results: client of the result backend, for the QUEUED markers, if that is another server.
        settings: key prefix, and the lifetime of a marker.
    """

    def __init__(self, broker: "redis.Redis", results: "redis.Redis | None", settings: Settings) -> None:
        self._broker = Wires(broker, Wire)
        self._results = None if results is None else Wires(results, Wire)
        self._settings = settings

    def close(self) -> None:
        """Close all connections."""
        self._broker.close()
        if self._results is not None:
            self._results.close()

    def publish(self, jobs: Sequence[Outgoing], timeout: float) -> None:
        """Send the jobs. Raises BrokerUnavailable within `timeout` seconds; then some may have been sent."""
        sending = chunks(jobs, self._settings)
        unanswered: deque[Chunk] = deque()
        try:
            wire = self._broker.take(timeout)
            reused = not wire.is_fresh
            try:
                self._send(wire, sending, unanswered, timeout)
            except ConnectionError:
                # A reused connection may have been lost since its last use; a new one shows whether the server is down.
                if not reused:
                    raise
                self._send(self._broker.open(timeout), sending, unanswered, timeout)
        except ERRORS as error:
            raise unavailable(error) from error

    def _send(self, wire: Wire, sending: Iterator[Chunk], unanswered: deque[Chunk], timeout: float) -> None:
        """Send the chunks that were unanswered on another connection, then the rest; give the connection back."""
        try:
            for chunk in unanswered:
                wire.send(self._packed(chunk))
            for chunk in sending:
                unanswered.append(chunk)
                wire.send(self._packed(chunk))
                if len(unanswered) >= IN_FLIGHT:
                    self._receive(wire, unanswered, timeout)
            while unanswered:
                self._receive(wire, unanswered, timeout)
        except BaseException:
            wire.close()
            raise
        self._broker.give_back(wire)

    def _packed(self, chunk: Chunk) -> bytes:
        return chunk.pushes + chunk.marks if self._results is None else chunk.pushes

    def _receive(self, wire: Wire, unanswered: deque[Chunk], timeout: float) -> None:
        chunk = unanswered[0]
        chunk.check(wire.receive(chunk.push_count + (chunk.mark_count if self._results is None else 0)))
        unanswered.popleft()
        if self._results is not None:
            self._mark(self._results, chunk, timeout)

    def _mark(self, results: Wires[Wire], chunk: Chunk, timeout: float) -> None:
        """Send the markers to the other server, unless it is down: the jobs have been accepted already."""
        with suppress(*ERRORS):
            wire = results.take(timeout)
            try:
                wire.send(chunk.marks)
                wire.receive(chunk.mark_count)
            except BaseException:
                wire.close()
                raise
            results.give_back(wire)


class AsyncRedisPublisher:
    """`RedisPublisher` with `await`, on one event loop; all its tasks share one connection to each server."""

    def __init__(
        self, broker: "redis.asyncio.Redis", results: "redis.asyncio.Redis | None", settings: Settings
    ) -> None:
        self._broker = SharedWire(broker, AsyncWire)
        self._results = None if results is None else SharedWire(results, AsyncWire)
        self._settings = settings

    async def close(self) -> None:
        """Close all connections."""
        await self._broker.close()
        if self._results is not None:
            await self._results.close()

    async def publish(self, jobs: Sequence[Outgoing], timeout: float) -> None:
        """Send the jobs. Raises BrokerUnavailable within `timeout` seconds; then some may have been sent."""
        sending = chunks(jobs, self._settings)
        unanswered: deque[Chunk] = deque()
        try:
            wire = await self._broker.get(timeout)
            reused = not wire.is_fresh
            try:
                await self._send(wire, sending, unanswered, timeout)
            except ConnectionError:
                # Still open where the server has become a replica.
                await wire.close()
                # As in RedisPublisher.
                if not reused:
                    raise
                await self._send(await self._broker.get(timeout), sending, unanswered, timeout)
        except ERRORS as error:
            raise unavailable(error) from error

    async def _send(self, wire: AsyncWire, sending: Iterator[Chunk], unanswered: deque[Chunk], timeout: float) -> None:
        """Send the chunks that were unanswered on another connection, then the rest."""
        replies = deque(self._ask(wire, chunk, timeout) for chunk in unanswered)
        try:
            for chunk in sending:
                unanswered.append(chunk)
                replies.append(self._ask(wire, chunk, timeout))
                if len(unanswered) >= IN_FLIGHT:
                    await self._receive(unanswered, replies, timeout)
            while unanswered:
                await self._receive(unanswered, replies, timeout)
        finally:
            for reply in replies:
                # Not awaited after an error: asyncio would log an exception that is never retrieved.
                reply.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _ask(self, wire: AsyncWire, chunk: Chunk, timeout: float) -> "asyncio.Future[list[bytes]]":
        if self._results is None:
            return wire.ask(chunk.pushes + chunk.marks, chunk.push_count + chunk.mark_count, timeout)
        return wire.ask(chunk.pushes, chunk.push_count, timeout)

    async def _receive(
        self, unanswered: deque[Chunk], replies: "deque[asyncio.Future[list[bytes]]]", timeout: float
    ) -> None:
        unanswered[0].check(await replies[0])
        replies.popleft()
        chunk = unanswered.popleft()
        if self._results is not None:
            # As in RedisPublisher.
            with suppress(*ERRORS):
                await (await self._results.get(timeout)).ask(chunk.marks, chunk.mark_count, timeout)
