"""One connection that all tasks of an event loop share: opened once for all of them, and again after it was lost."""

import asyncio
import copy
import os
import time
import weakref
from contextlib import suppress
from typing import Any, Generic, TypeVar

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from pattern_storage.tasks.client.async_wire import AsyncWire
from pattern_storage.tasks.wire import timed

#: Seconds for which a connection is kept at least where its server has become a replica: its address, or the Sentinels,
#: may lead to another by then. Thousands of tasks may find that out at once.
RENEW_AFTER = 5.0

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
