"""Results for an asyncio client: one connection reads them and is subscribed to all that are awaited."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pattern_storage.tasks.client.async_wire import SharedWire
from pattern_storage.tasks.client.result_resolver import POLL_INTERVAL, ResultResolver
from pattern_storage.tasks.client.result_wire import ResultWire, Send, Subscriber, document_of
from pattern_storage.tasks.redis_errors import is_passing, passing
from pattern_storage.tasks.resp import pack

#: Keys in one round trip.
KEYS_AT_ONCE = 1_000

#: Result keys with what is or was published under them.
Documents = list[tuple[str, bytes | None]]


def in_rounds(keys: Sequence[str]) -> list[Sequence[str]]:
    """Return the keys of each round trip."""
    return [keys[start : start + KEYS_AT_ONCE] for start in range(0, len(keys), KEYS_AT_ONCE)]


class ResultListener:
    """Reads results and waits for them over a single connection, on one event loop.

    Args:
        results: client of the result backend.
        timeout: seconds within which the server must connect, and answer.
    """

    def __init__(self, results: "redis.asyncio.Redis", timeout: float) -> None:
        self._wires = SharedWire(results, ResultWire)
        self._timeout = timeout

    async def watch(self, key: str, deadline: float, resolver: ResultResolver) -> AsyncGenerator[bytes | None]:
        """Yield the document under a result key: now, after each publication, and once every POLL_INTERVAL.

        Ends when the loop's clock passes `deadline` (seconds). Raises redis.exceptions.RedisError if the server does
        not answer.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            yield await self.get(key)
            return
        async with self.arrivals([key]) as arrivals:
            while (remaining := deadline - loop.time()) > 0:
                documents = await arrivals.receive(min(remaining, POLL_INTERVAL))
                if not documents:
                    # A publication may have been lost with a connection.
                    resolver.backend_refuses = resolver.has_database and await self.refuses_writes(key)
                    documents = [(key, await self.get(key))]
                for _, document in documents:
                    yield document

    @asynccontextmanager
    async def arrivals(self, keys: Iterable[str]) -> AsyncIterator["Arrivals"]:
        """Wait for results under many keys."""
        arrivals = Arrivals(self, list(keys), self._timeout)
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
            values = await self.ask(partial(ResultWire.read, keys=some, timeout=self._timeout))
            documents += zip(some, map(document_of, values), strict=True)
        return documents

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete result keys. Raises redis.exceptions.RedisError if the server does not answer."""
        await self.ask(lambda wire: wire.ask(pack("DEL", *keys), 1, self._timeout))

    async def refuses_writes(self, key: str) -> bool:
        """As `result_reader.refuses_writes`."""
        try:
            (reply,) = await self.ask(lambda wire: wire.ask(pack("SETRANGE", key, 0, ""), 1, self._timeout))
        except RedisError as error:
            return is_passing(error)
        if not isinstance(reply, ResponseError):
            return False
        if (refusal := passing(reply)) is not None and refusal.has_moved:
            # Its address, or the Sentinels, may lead to another server now.
            await self._wires.drop()
        return is_passing(reply)

    async def ask(self, send: Send) -> list[Any]:
        """Send commands on the connection, again if it was lost since its last use; return the replies.

        Raises redis.exceptions.RedisError.
        """
        try:
            wire = await self._wires.get(self._timeout)
            reused = not wire.is_fresh
            try:
                return await send(wire)
            except ConnectionError:
                if not reused:
                    raise
                return await send(await self._wires.get(self._timeout))
        except TimeoutError as error:
            raise RedisTimeoutError("no answer in time") from error
        except OSError as error:
            raise RedisConnectionError(str(error)) from error

    async def close(self) -> None:
        """Close the connection."""
        await self._wires.close()


class Arrivals(Subscriber):
    """Results for one caller under its keys."""

    def __init__(self, listener: ResultListener, keys: list[str], timeout: float) -> None:
        super().__init__()
        self._listener = listener
        self._keys = keys
        self._timeout = timeout
        self._wire: ResultWire | None = None

    async def receive(self, seconds: float) -> Documents:
        """Return what was published since the last call; nothing if nothing comes for so many seconds.

        At first, and after a lost connection, it subscribes and returns what is stored under all keys now. Raises
        redis.exceptions.RedisError if the server does not answer.
        """
        if self._wire is None:
            return await self._begin()
        documents: Documents = [*await self.wait(seconds)]
        return await self._begin() if self.is_cut_off and not documents else documents

    def end(self) -> None:
        """End the subscription."""
        if self._wire is not None:
            self._wire.unsubscribe(self._keys, self, self._timeout)

    async def _begin(self) -> Documents:
        # If the connection is lost meanwhile, the next call begins again.
        self.is_cut_off = False
        documents: Documents = []
        for keys in in_rounds(self._keys):
            replies = await self._listener.ask(partial(self._subscribe, keys))
            confirmations, values = replies[: -len(keys)], replies[-len(keys) :]
            for refusal in confirmations:
                if isinstance(refusal, ResponseError):
                    raise refusal
            documents += zip(keys, map(document_of, values), strict=True)
        return documents

    def _subscribe(self, keys: Sequence[str], wire: ResultWire) -> "asyncio.Future[list[Any]]":
        self._wire = wire
        return wire.subscribe(keys, self, self._timeout)
