"""Persistent connections of the asyncio client: `wire.py` with await, shared by all tasks of one event loop.

Commands are sent at once and replies arrive in the same order: tasks that ask at the same time share round trips,
and the replies of a cancelled task are never taken for those of another.
"""

import asyncio
import copy
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

import redis.asyncio
from redis.exceptions import RedisError

from pattern_storage.tasks.wire import MAX_IDLE, timed


class AsyncWire(asyncio.Protocol):
    """One connection, logged in, whose replies are lines.

    Args:
        connection: an open connection of redis-py, whose transport this protocol takes over.
    """

    #: Version of the protocol. In RESP 2 a server sends nothing but replies.
    protocol = 2

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        # redis-py has no public access to the transport.
        self._transport = cast("asyncio.Transport", connection._writer.transport)
        self._transport.set_protocol(self)
        #: Futures with the number of their replies and their timeouts in seconds.
        self._waiting: deque[tuple[asyncio.Future[list[Any]], int, float]] = deque()
        self._replies: list[Any] = []
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

    def ask(self, packed: bytes, count: int, timeout: float) -> "asyncio.Future[list[Any]]":
        """Send packed commands; return a future of `count` replies, each a line without its end, or of an OSError.

        The connection is aborted once the server has sent nothing for `timeout` seconds.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._transport.is_closing():
            future.set_exception(ConnectionResetError("the server closed the connection"))
            return future
        self._wait(future, count, timeout)
        self._transport.write(packed)
        if self._deadline is None or self._deadline.when() > self._loop.time() + timeout:
            self._watch(timeout)
        return future

    def _wait(self, future: "asyncio.Future[list[Any]]", count: int, timeout: float) -> None:
        if not self._waiting:
            self._used = time.monotonic()
        self._waiting.append((future, count, timeout))

    def abort(self) -> None:
        """Close it at once; who waits for a reply gets an OSError."""
        self._transport.abort()

    async def close(self) -> None:
        """Close it."""
        if self._deadline is not None:
            self._deadline.cancel()
        # nowait: redis-py would wait for its own protocol.
        with suppress(OSError):
            await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        """Take replies, each a line."""
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        self._take(lines)

    def _take(self, replies: Sequence[Any]) -> None:
        """Resolve the futures whose replies are complete."""
        self._used = time.monotonic()
        self.is_fresh = False
        self._replies += replies
        taken = 0
        while self._waiting and len(self._replies) - taken >= self._waiting[0][1]:
            future, count, _ = self._waiting.popleft()
            if not future.done():
                future.set_result(self._replies[taken : taken + count])
            taken += count
        del self._replies[:taken]

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
            self.abort()


Kind = TypeVar("Kind", bound=AsyncWire)


class SharedWire(Generic[Kind]):
    """The connection to one server, opened when it is needed, and again after it was lost."""

    def __init__(self, client: "redis.asyncio.Redis", kind: type[Kind]) -> None:
        self._client = client
        self._kind = kind
        self._wire: Kind | None = None
        self._opening = asyncio.Lock()
        self._failure: RedisError | None = None

    async def get(self, timeout: float) -> Kind:
        """Return the connection. Raises redis.exceptions.RedisError if none can be opened in `timeout` seconds."""
        if self._wire is not None and self._wire.is_usable:
            return self._wire
        failure = self._failure
        async with self._opening:
            # Tasks that waited for the lock find what the first one opened, or why it could not.
            if self._wire is not None and self._wire.is_usable:
                return self._wire
            if self._failure is not None and self._failure is not failure:
                raise copy.copy(self._failure)
            await self.drop()
            try:
                self._wire = self._kind(await self._connect(timeout))
            except RedisError as error:
                self._failure = error
                raise
            return self._wire

    async def _connect(self, timeout: float) -> Any:
        pool = self._client.connection_pool
        options = timed(pool.connection_kwargs, timeout) | {"protocol": self._kind.protocol}
        # As in `Wires.open`.
        options = {name: value for name, value in options.items() if not name.startswith("maint_notifications")}
        connection: Any = pool.connection_class(**options)
        # redis-py sends under asyncio.wait_for, which before Python 3.12 sometimes swallows a cancellation.
        task = asyncio.current_task()
        cancellations = task.cancelling() if task else 0
        try:
            await connection.connect()
            if task and task.cancelling() > cancellations:
                raise asyncio.CancelledError
        except BaseException:
            with suppress(OSError):
                await connection.disconnect(nowait=True)
            raise
        return connection

    async def close(self) -> None:
        """Close the connection, and those to the Sentinels."""
        await self.drop()
        await self._client.aclose()

    async def drop(self) -> None:
        """Close the connection, if there is one; the next call opens another."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()
