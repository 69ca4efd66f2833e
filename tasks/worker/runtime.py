"""The asyncio side of a worker process: one event loop in one thread, one connection pool, one effect node.

Celery's tasks are plain functions; psycopg's pool is asyncio. `run` carries a coroutine from one to the other, under
any Celery pool: prefork (a runtime in each child process), threads (one that all threads share) and solo.
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from queue import LifoQueue
from typing import Any, Concatenate, ParamSpec, TypeVar

from billiard.process import current_process
from celery import signals

from pattern_storage.config.settings import Settings, environment_settings
from pattern_storage.storage import NodePatternStorageEffect
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pool import create_pool
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.translation import translate
from pattern_storage.tasks.observability import metrics

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that closing waits for connections in use.
CLOSE_TIMEOUT = 10.0

#: Seconds after which STARTED is stored for a job that is still running.
SLOW = 0.5


class WrongProcess(RuntimeError):
    """A runtime was used in another process than the one that opened it."""


class Runtime:
    """An event loop thread with an open pool on it. Open it after any fork: threads do not survive one."""

    def __init__(self, settings: Settings, group_connections: int = 0) -> None:
        self.process_id = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="storage-runtime", daemon=True)
        self._thread.start()
        # Behind PgBouncer in transaction mode a connection has no settings of its own: each transaction sets them.
        pooler = settings.prepare_threshold < 0
        #: Connections on which groups are executed; they count among those that the process may have.
        self._groups = [
            GroupConnection(
                settings.database,
                connect_timeout=settings.pool_timeout,
                statement_timeout=settings.statement_timeout,
                pooler=pooler,
                on_measured=lambda name, value: self.node.record_metric(name, value),
            )
            for _ in range(group_connections)
        ]
        self._free_groups = LifoQueue[GroupConnection]()
        for connection in self._groups:
            self._free_groups.put(connection)
        self.pool = create_pool(
            settings.database,
            min_size=max(settings.pool_min_size - len(self._groups), 0),
            max_size=settings.pool_max_size - len(self._groups),
            timeout=settings.pool_timeout,
            prepare_threshold=None if pooler else settings.prepare_threshold,
            statement_timeout=0.0 if pooler else settings.statement_timeout,
            lock_timeout=0.0 if pooler else settings.lock_timeout,
            application_name="pattern-storage worker",
        )
        # A transaction need not set a limit that equals the connection's own.
        limits = settings.statement_timeouts.items()
        self.node = NodePatternStorageEffect(
            self.pool,
            timeouts={name: limit for name, limit in limits if pooler or limit != settings.statement_timeout},
            lock_timeout=settings.lock_timeout if pooler else None,
        )
        self.node.observer = metrics.observer()
        # Without waiting for a connection: a worker that starts before PostgreSQL fails jobs, not itself.
        self.run(self.pool.open(wait=False))
        metrics.watch_pool(self.pool, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T], on_slow: Callable[[], None] | None = None) -> T:
        """Run the coroutine on the loop thread; return what it returns, or raise what it raises.

        `on_slow` is called once, in the caller's thread, if that takes longer than SLOW seconds.

        If the wait is interrupted (Celery's soft time limit), the coroutine is cancelled and has ended, its transaction
        rolled back, before the interruption goes on.

        Raises:
            WrongProcess: in a process that was forked after this runtime was opened.
            RuntimeError: on the loop thread itself, which would wait for itself for ever.
        """
        if os.getpid() != self.process_id:
            coroutine.close()
            raise WrongProcess(
                f"the storage runtime was opened in process {self.process_id} and used in process {os.getpid()},"
                " which was forked from it; open it after the fork"
            )
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the storage runtime cannot wait for itself: await the coroutine instead")
        ended = threading.Event()

        async def tracked() -> T:
            try:
                return await coroutine
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(tracked(), self._loop)
        try:
            if on_slow is not None:
                with suppress(TimeoutError):
                    return future.result(SLOW)
                if not future.done():
                    on_slow()
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait(CLOSE_TIMEOUT)
            raise

    @contextmanager
    def group_connection(self) -> Iterator[GroupConnection]:
        """Wait for a free connection of groups and lend it to this thread."""
        lent = self._free_groups.get()
        try:
            yield lent
        finally:
            self._free_groups.put(lent)

    def open_groups(self) -> None:
        """Open the connections of groups. A server that is down is reported by the jobs."""
        for connection in self._groups:
            with suppress(StorageError):
                connection.open()

    def close(self) -> None:
        """Close all connections and stop the loop. Harmless in a forked child, whose parent still owns both."""
        if os.getpid() != self.process_id or self._loop.is_closed():
            return
        for connection in self._groups:
            connection.close()
        self.run(self.pool.close(CLOSE_TIMEOUT))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT)
        self._loop.close()


_lock = threading.Lock()
_runtime: Runtime | None = None
_threads_have_groups = False


def runtime() -> Runtime:
    """Return this process's runtime, opened at the first call; threads that race for it get the same one."""
    global _runtime
    with _lock:
        if _runtime is None:
            settings = environment_settings()
            _runtime = Runtime(settings, _group_connections(settings))
        return _runtime


def _group_connections(settings: Settings) -> int:
    """Return the number of connections for groups: one in a process of a pool, half of all where threads share them."""
    if not settings.group_execution:
        return 0
    if current_process().name != "MainProcess":
        return min(1, settings.pool_max_size - 1)
    return settings.pool_max_size // 2 if _threads_have_groups else 0


def give_threads_groups() -> None:
    """Reserve connections for groups in this process, whose threads execute jobs. To be called before the first job."""
    global _threads_have_groups
    _threads_have_groups = True


def run(coroutine: Coroutine[Any, Any, T], on_slow: Callable[[], None] | None = None) -> T:
    """Run a coroutine on this process's runtime; see `Runtime.run`."""
    return runtime().run(coroutine, on_slow)


def node() -> NodePatternStorageEffect:
    """Return this process's effect node."""
    return runtime().node


def on_connection(function: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call an async function of `storage` with a pooled connection. Raises StorageError."""
    pool = runtime().pool

    async def call() -> T:
        try:
            async with pool.connection() as connection:
                return await function(connection, *args, **kwargs)
        except Exception as error:
            raise translate(error) from error

    return run(call())


@signals.worker_process_init.connect
def _open(**_: Any) -> None:
    """Open in each prefork child before its first job, so that no job pays for connecting."""
    runtime().open_groups()


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def close(**_: Any) -> None:
    """Close this process's runtime, if it has one."""
    global _runtime
    with _lock:
        closing, _runtime = _runtime, None
    if closing is not None:
        closing.close()
