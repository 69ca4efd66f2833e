"""Access to the servers behind the pages: a small pool of PostgreSQL connections, a client, and threads."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from psycopg_pool import PoolTimeout

from pattern_storage.config.settings import Settings
from pattern_storage.storage.errors import ServerUnavailable
from pattern_storage.storage.pool import create_pool
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.translation import translate
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.errors import ServiceUnavailable
from pattern_storage.tasks.operate.operator import Operator

P = ParamSpec("P")
T = TypeVar("T")

#: Connections at most. A page runs its queries one after the other, so this many pages are answered at the same time.
CONNECTIONS = 4

#: Seconds after which PostgreSQL cancels a page's statement: nobody waits longer for a page.
STATEMENT_TIMEOUT = 10.0


class Backend:
    """Access of the handlers to PostgreSQL, the queues and the results, without blocking Flower's event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._pool: Any = None
        self._opening = asyncio.Lock()

    async def run(
        self, function: Callable[Concatenate[Connection, P], Awaitable[T]], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Call an async function of `storage` with a connection. Raises SettingsInvalid or StorageError."""
        settings = self.settings
        async with self._opening:
            if self._pool is None:
                pool = create_pool(
                    settings.database, min_size=0, max_size=CONNECTIONS, timeout=settings.connect_timeout,
                    prepare_threshold=None if settings.prepare_threshold < 0 else settings.prepare_threshold,
                    statement_timeout=STATEMENT_TIMEOUT, lock_timeout=STATEMENT_TIMEOUT,
                    application_name="pattern-storage flower",
                )  # fmt: skip
                await pool.open()
                self._pool = pool
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT + settings.connect_timeout):
                async with self._pool.connection() as connection:
                    return await function(connection, *arguments, **named)
        except (TimeoutError, PoolTimeout):
            raise ServerUnavailable("PostgreSQL did not answer in time") from None
        except Exception as error:
            raise translate(error) from error

    async def in_thread(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Call a function that blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments, **named))

    async def try_in_thread(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T | None:
        """Call a function that blocks, in a thread; return None if its server is not available."""
        with suppress(ServiceUnavailable):
            return await self.in_thread(function, *arguments, **named)
        return None

    def operator(self, actor: str) -> Operator:
        """Return the actions of operators; the audit has them under this name."""
        return Operator(self.settings, actor)

    @cached_property
    def client(self) -> PatternStorageClient:
        """The client that sends jobs; its methods block."""
        settings = self.settings
        return PatternStorageClient(
            database_url=settings.database_url, redis_url=settings.redis_url, broker_url=settings.broker_url,
            result_backend_url=settings.result_backend_url,
        )  # fmt: skip
