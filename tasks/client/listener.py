"""Redis subscription of an asyncio client: one connection for all results that are awaited."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar, cast

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from pattern_storage.tasks.client.result_document import unreadable
from pattern_storage.tasks.client.result_resolver import POLL_INTERVAL, ResultResolver
from pattern_storage.tasks.redis_errors import is_passing

#: Channels in one SUBSCRIBE: the server does nothing else meanwhile.
KEYS_AT_ONCE = 1_000

T = TypeVar("T")


async def cancellable(command: Awaitable[T]) -> T:
    """Await a command to Redis without losing a cancellation.

    redis-py sends under asyncio.wait_for, which before Python 3.12 sometimes swallows a cancellation.
    """
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    answer = await command
    if task and task.cancelling() > cancellations:
        raise asyncio.CancelledError
    return answer


class Arrivals:
    """Result keys with new publications, for one caller that waits for many jobs."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._arrived = asyncio.Event()

    def add(self, key: str) -> None:
        """Add a key under which something was published."""
        self._keys.add(key)
        self._arrived.set()

    async def wait(self, seconds: float) -> list[str]:
        """Return the keys that were added since the last call, none if none comes within so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), seconds)
        self._arrived.clear()
        keys, self._keys = list(self._keys), set()
        return keys


class ResultListener:
    """Waits for many results over a single connection, on one event loop."""

    def __init__(self, connection: "redis.asyncio.Redis") -> None:
        self._redis = connection
        self._channel = connection.pubsub(ignore_subscribe_messages=True)
        #: Callbacks for a publication under each key.
        self._waiting: dict[str, set[Callable[[], None]]] = defaultdict(set)
        self._reader: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()

    async def watch(self, key: str, deadline: float, resolver: ResultResolver) -> AsyncGenerator[bytes | None]:
        """Yield the document under a result key: now, after each publication, and once every POLL_INTERVAL.

        Ends when the loop's clock passes `deadline` (seconds). Raises redis.exceptions.RedisError if the server does
        not answer.
        """
        yield await self.get(key)
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            return
        published = asyncio.Event()
        async with self._subscribed({key: published.set}):
            # Read again now that it is subscribed, so that no publication is missed in between.
            while True:
                # Cleared before reading, so that a publication during the read is noticed.
                published.clear()
                yield await self.get(key)
                remaining = deadline - loop.time()
                if remaining <= 0:
                    return
                # Read at each POLL_INTERVAL too: a publication may have been lost with a connection.
                try:
                    await asyncio.wait_for(published.wait(), min(remaining, POLL_INTERVAL))
                except TimeoutError:
                    resolver.backend_refuses = resolver.has_database and await self.refuses_writes(key)

    async def refuses_writes(self, key: str) -> bool:
        """As `result_reader.refuses_writes`."""
        try:
            await cancellable(self._redis.setrange(key, 0, ""))
        except RedisError as error:
            return is_passing(error)
        return False

    @asynccontextmanager
    async def arrivals(self, keys: Iterable[str]) -> AsyncIterator[Arrivals]:
        """Wait for publications under many keys. Raises redis.exceptions.RedisError if the server does not answer."""
        arrivals = Arrivals()
        async with self._subscribed({key: partial(arrivals.add, key) for key in keys}):
            yield arrivals

    @asynccontextmanager
    async def _subscribed(self, waiting: Mapping[str, Callable[[], None]]) -> AsyncIterator[None]:
        for key, wake in waiting.items():
            self._waiting[key].add(wake)
        keys = list(waiting)
        try:
            try:
                if self._channel.connection is None:
                    await self._connect()
                for start in range(0, len(keys), KEYS_AT_ONCE):
                    await cancellable(self._channel.subscribe(*keys[start : start + KEYS_AT_ONCE]))
            except (AttributeError, RuntimeError) as error:
                # Raised by redis-py when the reader closes the broken connection, or opens it again, while this sends.
                raise RedisConnectionError("the connection was lost") from error
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read(), name="pattern-storage results")
            yield
        finally:
            for key, wake in waiting.items():
                self._waiting[key].discard(wake)
            if unused := [key for key in keys if not self._waiting[key]]:
                for key in unused:
                    del self._waiting[key]
                if self._channel.connection is not None and self._channel.connection.is_connected:
                    # Without a connection there is no subscription either; for the errors see above.
                    with suppress(RedisError, AttributeError, RuntimeError):
                        await self._channel.unsubscribe(*unused)
                else:
                    # The reader opens the next one. If this did so too, redis-py would mix the two.
                    for key in unused:
                        self._channel.channels.pop(key.encode(), None)

    async def _connect(self) -> None:
        """Open the connection; redis-py would open two for two callers that are the first to subscribe."""
        async with self._connecting:
            if self._channel.connection is None:
                await cancellable(self._channel.connect())  # type: ignore[no-untyped-call]

    async def get(self, key: str) -> bytes | None:
        """Return the document under a result key. Raises redis.exceptions.RedisError."""
        try:
            return cast("bytes | None", await cancellable(self._redis.get(key)))
        except ResponseError as error:
            return unreadable(error)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the documents under these result keys. Raises redis.exceptions.RedisError."""
        return cast("list[bytes | None]", await cancellable(self._redis.mget(keys)))

    async def close(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._channel.aclose()  # type: ignore[no-untyped-call]

    async def _read(self) -> None:
        """Wake the waiters of each published key, until nothing is subscribed or the connection is lost.

        A caller notices a lost connection itself when it reads. For RuntimeError see `_subscribed`.
        """
        with suppress(RedisError, RuntimeError):
            async for message in self._channel.listen():
                for wake in self._waiting.get(message["channel"].decode(), ()):
                    wake()
