"""A persistent connection of the asyncio client: `wire.py` with await, for all tasks of one event loop.

Commands are sent at once and replies arrive in the same order: tasks that ask at the same time share round trips,
and the replies of a cancelled task are never taken for those of another.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from pattern_storage.tasks.wire import MAX_IDLE


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
