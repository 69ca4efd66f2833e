"""What PostgreSQL knows of a job: asked when Redis has forgotten it, and to cancel it for good."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from psycopg import AsyncConnection

from config.settings import Settings
from storage import ModelResult, ledger
from storage.errors import ServerUnavailable, StorageError
from storage.operations.base import Connection
from storage.translation import translate
from tasks.client.outcomes import UNKNOWN

T = TypeVar("T")


class Archive:
    """Opens a connection for each question: they are rare, and most clients never ask one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def state(self, correlation_id: UUID) -> tuple[str, ModelResult | None]:
        """Return a job's status and result. UNKNOWN also where no database is configured, or it does not answer."""
        if self._settings.database_url is None:
            return UNKNOWN, None
        try:
            return await self.ask(lambda connection: ledger.state(connection, correlation_id))
        except StorageError:
            return UNKNOWN, None

    async def cancel(self, correlation_id: UUID) -> ModelResult:
        """See `storage.ledger.cancel`. Raises SettingsInvalid without a database, or StorageError."""
        return await self.ask(lambda connection: ledger.cancel(connection, correlation_id))

    async def ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """Call an async function of `storage` with a connection. Raises SettingsInvalid or StorageError."""
        timeout = max(2, int(self._settings.connect_timeout))
        url = self._settings.database
        try:
            # A server that accepts and then says nothing is down too.
            async with asyncio.timeout(timeout):
                async with await AsyncConnection.connect(url, autocommit=True) as connection:
                    return await question(connection)
        except TimeoutError:
            raise ServerUnavailable(f"PostgreSQL did not answer within {timeout} s") from None
        except Exception as error:
            raise translate(error) from error


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine for synchronous code, also where an event loop runs in the caller's thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
