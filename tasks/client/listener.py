"""Results for an asyncio client: read over one connection, and awaited over another that is subscribed to them all."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pattern_storage.tasks.client.result_document import unreadable
from pattern_storage.tasks.client.result_resolver import POLL_INTERVAL, ResultResolver
from pattern_storage.tasks.client.result_wire import Inbox, ReplyWire, SubscriptionWire
from pattern_storage.tasks.client.shared_wire import Kind, SharedWire
from pattern_storage.tasks.redis_errors import is_passing, passing
from pattern_storage.tasks.resp import pack

#: Keys or jobs in one round trip.
AT_ONCE = 1_000

#: Result keys with the documents under them.
Documents = list[tuple[str, bytes | None]]

T = TypeVar("T")


def in_rounds(items: Sequence[T]) -> list[Sequence[T]]:
    """Return the items of each round trip."""
    return [items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE)]


class ResultListener:
    """Reads results and waits for them, on one event loop.

    Args:
        results: client of the result backend.
        timeout: seconds within which the server must accept a connection, and answer.
    """

    def __init__(self, results: "redis.asyncio.Redis", timeout: float) -> None:
        self._reads = SharedWire(results, ReplyWire)
        self._subscriptions = SharedWire(results, SubscriptionWire)
        self.timeout = timeout

    async def watch(self, key: str, deadline: float, resolver: ResultResolver) -> AsyncGenerator[bytes | None]:
        """Yield the document under a result key: now, after each publication, and once every POLL_INTERVAL.

        Ends when the loop's clock passes `deadline` (seconds). Raises redis.exceptions.RedisError if the server does
        not answer.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            yield await self.get(key)
            return
        async with self.arrivals(lambda: [key]) as arrivals:
            while (remaining := deadline - loop.time()) > 0:
                documents = await arrivals.receive(min(remaining, POLL_INTERVAL))
                if not documents:
                    # A publication may have been lost with a connection.
                    resolver.backend_refuses = resolver.has_database and await self.refuses_writes(key)
                    documents = await self.get_many([key])
                for _, document in documents:
                    yield document

    @asynccontextmanager
    async def arrivals(self, keys: Callable[[], Sequence[str]]) -> AsyncIterator["Arrivals"]:
        """Wait for results; `keys` returns those that are wanted still."""
        arrivals = Arrivals(self, keys)
        try:
            yield arrivals
        finally:
            arrivals.end()

    async def get(self, key: str) -> bytes | None:
        """Return the document under a result key. Raises redis.exceptions.RedisError."""
        ((_, document),) = await self.get_many([key])
        return document

    async def get_many(self, keys: Sequence[str]) -> Documents:
        """Return result keys with the documents under them. Raises redis.exceptions.RedisError."""
        documents: Documents = []
        for some in in_rounds(keys):
            packed = b"".join([pack("GET", key) for key in some])
            documents += zip(some, map(_document, await self._read(packed, len(some))), strict=True)
        return documents

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete result keys. Raises redis.exceptions.RedisError."""
        (reply,) = await self._read(pack("DEL", *keys), 1)
        if isinstance(reply, ResponseError):
            raise reply

    async def refuses_writes(self, key: str) -> bool:
        """As `result_reader.refuses_writes`."""
        try:
            (reply,) = await self._read(pack("SETRANGE", key, 0, ""), 1)
        except RedisError as error:
            return is_passing(error)
        return isinstance(reply, ResponseError) and is_passing(reply)

    async def subscribe(self, send: Callable[[SubscriptionWire], Awaitable[None]]) -> None:
        """Subscribe by `send`. Raises redis.exceptions.RedisError."""
        await self._on(self._subscriptions, send)

    async def _read(self, packed: bytes, count: int) -> list[Any]:
        replies = await self._on(self._reads, lambda wire: wire.ask(packed, count, self.timeout))
        for reply in replies:
            if isinstance(reply, ResponseError) and (refusal := passing(reply)) is not None and refusal.has_moved:
                await self._reads.renew()
        return replies

    async def _on(self, shared: SharedWire[Kind], send: Callable[[Kind], Awaitable[T]]) -> T:
        """Return what `send` returns for the connection, or for a new one if that was lost since its last use."""
        try:
            wire = await shared.get(self.timeout)
            reused = not wire.is_fresh
            try:
                return await send(wire)
            except ConnectionError:
                if not reused:
                    raise
                return await send(await shared.get(self.timeout))
        except TimeoutError as error:
            raise RedisTimeoutError("no answer in time") from error
        except OSError as error:
            raise RedisConnectionError(str(error)) from error

    async def close(self) -> None:
        """Close the connections; who waits gets redis.exceptions.RedisError."""
        try:
            await self._subscriptions.close()
        finally:
            await self._reads.close()


class Arrivals:
    """Results for one caller as they come."""

    def __init__(self, listener: ResultListener, keys: Callable[[], Sequence[str]]) -> None:
        self._listener = listener
        self._keys = keys
        self._inbox = Inbox()
        self._subscribed: Sequence[str] = ()
        self._wire: SubscriptionWire | None = None

    async def receive(self, seconds: float) -> Documents:
        """Return what was published since the last call; nothing if nothing comes for so many seconds.

        At first, and after a lost connection, it subscribes and returns what is stored under all keys then. Raises
        redis.exceptions.RedisError.
        """
        if self._wire is not None:
            documents = await self._inbox.take(seconds)
            if documents or not self._inbox.is_cut_off:
                return [*documents.items()]
        self._subscribed = list(self._keys())
        await self._listener.subscribe(self._begin)
        # Read now that it is subscribed, so that no publication is missed in between.
        return await self._listener.get_many(self._subscribed)

    def end(self) -> None:
        """End the subscriptions."""
        if self._wire is not None:
            self._wire.unsubscribe(self._subscribed, self._inbox, self._listener.timeout)

    async def _begin(self, wire: SubscriptionWire) -> None:
        self._wire, self._inbox.is_cut_off = wire, False
        for keys in in_rounds(self._subscribed):
            for confirmed in wire.subscribe(keys, self._inbox, self._listener.timeout):
                # Others may wait for it too.
                for reply in await asyncio.shield(confirmed):
                    if isinstance(reply, ResponseError):
                        raise reply


def _document(reply: Any) -> bytes | None:
    """Return the document of a reply to GET. Raises ResponseError if reading was refused."""
    if isinstance(reply, ResponseError):
        return unreadable(reply)
    document: bytes | None = reply
    return document
