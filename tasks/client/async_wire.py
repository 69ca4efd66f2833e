"""Persistent connections of the asyncio client: `wire.py` with await, shared by all tasks of one event loop.

Commands are sent at once and replies arrive in the same order: tasks that ask at the same time share round trips,
and the replies of a cancelled task are never taken for those of another.
"""

import asyncio
import copy
import os
import time
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from pattern_storage.tasks.wire import MAX_IDLE, timed

#: Seconds for which a connection is kept at least where its server has become a replica: its address, or the Sentinels,
#: may lead to another by then. Thousands of tasks may find that out at once.
RENEW_AFTER = 5.0


class AsyncWire(asyncio.Protocol):
    """One connection, logged in, whose replies are lines.

    Args:
        connection: an open connection of redis-py, whose transport this protocol takes over.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        # redis-py has no public access to the transport.
        self.transport = cast("asyncio.Transport", connection._writer.transport)
        self.transport.set_protocol(self)
        #: Futures with the number of their replies and their timeouts in seconds.
        self._waiting: deque[tuple[asyncio.Future[list[Any]], int, float]] = deque()
        self._replies: list[Any] = []
        self._rest = b""
        self.opened = self._used = time.monotonic()
        self._deadline: asyncio.TimerHandle | None = None
        #: Why this side closed it.
        self._reason: OSError | None = None
        #: Whether it has not received a reply yet.
        self.is_fresh = True

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and was not unused for longer than MAX_IDLE."""
        return not self.transport.is_closing() and (bool(self._waiting) or time.monotonic() - self._used <= MAX_IDLE)

    def ask(self, packed: bytes, count: int, timeout: float) -> "asyncio.Future[list[Any]]":
        """Send packed commands; return a future of `count` replies, or of an OSError.

        The connection is aborted once the server has sent nothing for `timeout` seconds.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self.transport.is_closing():
            future.set_exception(self._reason or ConnectionResetError("the server closed the connection"))
            return future
        self._expect(future, count, timeout)
        self.transport.write(packed)
        if self._deadline is None or self._deadline.when() > self._loop.time() + timeout:
            self._watch(timeout)
        return future

    def abort(self, reason: OSError) -> None:
        """Close it at once; who waits for a reply gets this error."""
        self._reason = reason
        self.transport.abort()

    async def close(self) -> None:
        """Close it. What has not been sent is dropped: a server that does not read would keep it open."""
        if self._deadline is not None:
            self._deadline.cancel()
        self.abort(ConnectionResetError("the client closed the connection"))
        # nowait: redis-py would wait for its own protocol.
        with suppress(OSError):
            await self._connection.disconnect(nowait=True)

    def data_received(self, data: bytes) -> None:
        """Take replies, each a line, which is given without its end."""
        self._used = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        self._resolve(lines)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the futures that wait for replies."""
        if self._deadline is not None:
            self._deadline.cancel()
        error = self._reason or exc or ConnectionResetError("the server closed the connection")
        while self._waiting:
            future, *_ = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    def _expect(self, future: "asyncio.Future[list[Any]]", count: int, timeout: float) -> None:
        if not self._waiting:
            self._used = time.monotonic()
        self._waiting.append((future, count, timeout))

    def _resolve(self, replies: Sequence[Any]) -> None:
        """Add replies, and resolve the futures that have all of theirs."""
        self.is_fresh = False
        self._replies += replies
        taken = 0
        while self._waiting and len(self._replies) - taken >= self._waiting[0][1]:
            future, count, _ = self._waiting.popleft()
            if not future.done():
                future.set_result(self._replies[taken : taken + count])
            taken += count
        del self._replies[:taken]

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
            self.abort(TimeoutError("no reply in time"))


Kind = TypeVar("Kind", bound=AsyncWire)


class SharedWire(Generic[Kind]):
    """The connection to one server, opened when it is needed, and again after it was lost."""

    def __init__(self, client: "redis.asyncio.Redis", kind: type[Kind]) -> None:
        self._client = client
        self._kind = kind
        self._wire: Kind | None = None
        self._opening = asyncio.Lock()
        self._failure: RedisError | None = None
        self._is_closed = False
        self._finalizer: weakref.finalize[..., Any] | None = None

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
            await self._drop()
            try:
                connection = await self._connect(timeout)
            except RedisError as error:
                # Without the frames of who has tried.
                self._failure = copy.copy(error)
                raise
            self._wire = self._kind(connection)
            # A client that nobody closes: the event loop would keep the connection.
            loop, transport = asyncio.get_running_loop(), self._wire.transport
            self._finalizer = weakref.finalize(self, _abort, loop, transport, os.getpid())
            self._finalizer.atexit = False
            return self._wire

    async def renew(self) -> None:
        """Open another connection for the next call, unless this one is younger than RENEW_AFTER."""
        if self._wire is not None and time.monotonic() - self._wire.opened > RENEW_AFTER:
            await self._drop()

    async def close(self) -> None:
        """Close the connection, and those to the Sentinels; no other is opened."""
        self._is_closed = True
        await self._drop()
        await self._client.aclose()

    async def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            if self._finalizer is not None:
                self._finalizer.detach()
            await wire.close()

    async def _connect(self, timeout: float) -> Any:
        if self._is_closed:
            raise RedisConnectionError("the client was closed")
        pool = self._client.connection_pool
        connection: Any = pool.connection_class(**timed(pool.connection_kwargs, timeout))
        # redis-py sends under asyncio.wait_for, which before Python 3.12 sometimes swallows a cancellation.
        task = asyncio.current_task()
        cancellations = task.cancelling() if task else 0
        try:
            await connection.connect()
            if task and task.cancelling() > cancellations:
                raise asyncio.CancelledError
            if self._is_closed:
                raise RedisConnectionError("the client was closed")
        except BaseException:
            with suppress(OSError):
                await connection.disconnect(nowait=True)
            raise
        return connection


def _abort(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, process_id: int) -> None:
    # The garbage collector may run in any thread; a parent process goes on using its connections.
    if process_id == os.getpid() and not loop.is_closed():
        loop.call_soon_threadsafe(transport.abort)
