"""PostgreSQL for clients and commands: a connection for each call, and the validation of DATABASE_URL by libpq."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar, cast
from uuid import UUID

from pattern_storage.config.settings import Settings, SettingsInvalid
from pattern_storage.storage import ModelResult, ledger
from pattern_storage.storage.connection import check_conninfo, connect
from pattern_storage.storage.connection import check_database as check_connection
from pattern_storage.storage.errors import ServerUnavailable, StorageError
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.setup_errors import ConninfoInvalid, DatabaseUnsuitable
from pattern_storage.storage.translation import translate
from pattern_storage.vocabulary import JobState

T = TypeVar("T")
#: A job's status, and its result if it has ended.
State = tuple[JobState, ModelResult | None]

#: Shortest timeout of a call in seconds, also for a caller without time left: one lookup should still be possible.
MIN_TIMEOUT = 1.0


class Database:
    """The database of the settings. Each call opens a connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def is_configured(self) -> bool:
        """Whether a database is configured."""
        return self._settings.database_url is not None

    async def states(self, ids: Sequence[UUID], timeout: float | None = None) -> dict[UUID, State]:
        """Return the status and the result of jobs; UNKNOWN if no database is configured, or it does not answer."""
        if self.is_configured:
            with suppress(StorageError):
                return await self.run(lambda connection: ledger.states(connection, ids), timeout)
        return dict.fromkeys(ids, (JobState.UNKNOWN, None))

    async def state(self, correlation_id: UUID, timeout: float | None = None) -> State:
        """Return the status and the result of one job, as `states` does."""
        return (await self.states([correlation_id], timeout))[correlation_id]

    async def cancel(self, correlation_id: UUID) -> ModelResult:
        """See `storage.ledger.cancel`. Raises SettingsInvalid without a database, or StorageError."""
        return await self.run(lambda connection: ledger.cancel(connection, correlation_id))

    async def run(self, function: Callable[[Connection], Awaitable[T]], timeout: float | None = None) -> T:
        """Run an async function of `storage` with a connection. Raises SettingsInvalid or StorageError.

        Args:
            function: called with the connection.
            timeout: seconds that the caller has left; used within MIN_TIMEOUT and the connect timeout.
        """
        longest = max(2.0, self._settings.connect_timeout)
        seconds = longest if timeout is None else min(max(timeout, MIN_TIMEOUT), longest)
        url = self._settings.database
        try:
            # A server that accepts connections and never answers is down too.
            async with asyncio.timeout(seconds):
                async with await connect(url, application_name="pattern-storage client", timeout=seconds) as connection:
                    return await function(connection)
        except TimeoutError:
            raise ServerUnavailable(f"PostgreSQL did not answer within {seconds:g} s") from None
        except Exception as error:
            raise translate(error) from error


def check_database_url(settings: Settings) -> None:
    """Raise SettingsInvalid, with libpq's reason, for a DATABASE_URL that libpq cannot parse."""
    if settings.database_url is not None:
        try:
            check_conninfo(settings.database_url)
        except ConninfoInvalid as error:
            raise SettingsInvalid(str(error)) from None


def check_database(settings: Settings) -> None:
    """Raise SettingsInvalid at the start of a service without a database, or whose database cannot hold every text."""
    try:
        check_connection(settings.database, timeout=settings.connect_timeout)
    except (ConninfoInvalid, DatabaseUnsuitable) as error:
        raise SettingsInvalid(str(error)) from None


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine for synchronous code, also where an event loop runs in the caller's thread."""
    # After `monkey.patch_all()` threads are greenlets of one thread, in which only one event loop can run at a time.
    monkey, gevent = sys.modules.get("gevent.monkey"), sys.modules.get("gevent")
    if monkey is not None and gevent is not None and monkey.is_module_patched("threading"):
        return cast("T", gevent.get_hub().threadpool.apply(asyncio.run, (coroutine,)))
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
