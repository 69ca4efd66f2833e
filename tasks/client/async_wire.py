"""Persistent connection of the asyncio publisher: `wire.py` with await, shared by all tasks of one event loop.

Commands are sent at once and replies arrive in the same order: tasks that publish at the same time share round trips,
and the replies of a cancelled task are never taken for those of another.
"""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Any, cast

import redis.asyncio

from pattern_storage.tasks.wire import MAX_IDLE, timed


class AsyncWire(asyncio.Protocol):
    """One connection, logged in.

    Args:
        connection: an open connection of redis-py, whose transport this protocol takes over.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        # redis-py has no public access to the transport.
        self._transport = cast("asyncio.Transport", connection._writer.transport)
        self._transport.set_protocol(self)
        #: Futures with the number of their replies and their timeouts in seconds.
        self._waiting: deque[tuple[asyncio.Future[list[bytes]], int, float]] = deque()
        self._lines: list[bytes] = []
        self._rest = b""
        self._used = time.monotonic()
        self._deadline: asyncio.TimerHandle | None = None
        self._is_silent = False
        #: Whether it has not received a reply yet.
        self.is_fresh = True

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and was not unused for longer than MAX_IDLE."""
        return not self._transport.is_closing() and (bool(self._waiting) or time.monotonic() - self._used <= MAX_IDLE)

    def ask(self, packed: bytes, count: int, timeout: float) -> "asyncio.Future[list[bytes]]":
        """Send packed commands; return a future of `count` replies, each a line without its end, or of an OSError.

        The connection is aborted once the server has sent nothing for `timeout` seconds.
        """
        future: asyncio.Future[list[bytes]] = self._loop.create_future()
        if self._transport.is_closing():
            future.set_exception(ConnectionResetError("the server closed the connection"))
            return future
        if not self._waiting:
            self._used = time.monotonic()
        self._waiting.append((future, count, timeout))
        self._transport.write(packed)
        if self._deadline is None or self._deadline.when() > self._loop.time() + timeout:
            self._watch(timeout)
        return future

    async def close(self) -> None:
        """Close it."""
        if self._deadline is not None:
            self._deadline.cancel()
        # nowait: redis-py would wait for its own protocol.
        with suppress(OSError):
            await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        """Resolve the futures whose replies are complete."""
        self._used = time.monotonic()
        self.is_fresh = False
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        self._lines += lines
        taken = 0
        while self._waiting and len(self._lines) - taken >= self._waiting[0][1]:
            future, count, _ = self._waiting.popleft()
            if not future.done():
                future.set_result(self._lines[taken : taken + count])
            taken += count
        del self._lines[:taken]

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the futures that wait for replies."""
        if self._deadline is not None:
            self._deadline.cancel()
        error = TimeoutError("no reply in time") if self._is_silent else exc
        while self._waiting:
            future, *_ = self._waiting.popleft()
            if not future.done():
                future.set_exception(error or ConnectionResetError("the server closed the connection"))

    def _watch(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, self._on_deadline)

    def _on_deadline(self) -> None:
        """Abort the connection if the server has sent nothing since; one timer serves all requests."""
        self._deadline = None
        if not self._waiting:
            return
        left = self._used + min(timeout for *_, timeout in self._waiting) - time.monotonic()
        if left > 0:
            self._watch(left)
        else:
            self._is_silent = True
            self._transport.abort()


class SharedWire:
    """The connection to one server, opened when it is needed, and again after it was lost."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._client = client
        self._wire: AsyncWire | None = None
        self._opening = asyncio.Lock()

    async def get(self, timeout: float) -> AsyncWire:
        """Return the connection. Raises redis.exceptions.RedisError if none can be opened in `timeout` seconds."""
        if self._wire is not None and self._wire.is_usable:
            return self._wire
        async with self._opening:
            # Tasks that waited for the lock find what the first one opened.
            if self._wire is None or not self._wire.is_usable:
                await self._drop()
                pool = self._client.connection_pool
                connection: Any = pool.connection_class(**timed(pool.connection_kwargs, timeout))
                await connection.connect()
                self._wire = AsyncWire(connection)
        return self._wire

    async def close(self) -> None:
        """Close the connection, and those to the Sentinels."""
        await self._drop()
        await self._client.aclose()

    async def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()
