"""Paused queues: a worker takes no messages from them until an operator resumes them.

Pauses are rows in PostgreSQL, so they outlast restarts of everything, and work with every broker. Each worker polls
them once a second, on a connection of its own. Jobs that it has taken before the pause go on.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

from celery import bootsteps
from celery.worker.consumer import Tasks

from pattern_storage.config.settings import Settings, environment_settings
from pattern_storage.storage import pauses
from pattern_storage.storage.connection import connect
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.pauses import Pausable
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.translation import translate
from pattern_storage.tasks.installation_signs import SIGN_INTERVAL
from pattern_storage.tasks.reconnect import ReconnectBackoff
from pattern_storage.tasks.worker import installation

logger = get_logger(__name__)

#: Seconds between two polls.
POLL_INTERVAL = 1.0
#: Seconds that the start of a worker waits for the first poll: without PostgreSQL no job could be executed anyway.
FIRST_POLL = 3.0
#: Seconds that the end of a worker waits for the connection to be closed.
CLOSING = 3.0


class QueuePauses(bootsteps.StartStopStep):
    """Bootstep of a worker's consumer that stops and starts consuming from queues."""

    requires = (Tasks,)

    def __init__(self, c: Any, **options: Any) -> None:
        super().__init__(c, **options)
        #: Queues of this worker that it does not consume from because they are paused.
        self.held: set[str] = set()
        self._watch: PauseWatch | None = None

    def start(self, c: Any) -> None:
        """Begin to watch pauses, for each connection to the broker anew, before the first message is taken."""
        on_change, sign = partial(c.call_soon, self.obey, c), partial(c.call_soon, installation.sign, c)
        self._watch = PauseWatch(environment_settings(), on_change, sign)
        if (names := self._watch.first()) is not None:
            self.obey(c, self._watch, names)

    def stop(self, c: Any) -> None:
        """Stop the watch; the next start begins another."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    shutdown = stop

    def obey(self, c: Any, watch: "PauseWatch", names: frozenset[str]) -> None:
        """Stop consuming from queues that are paused, and consume again from those that were resumed."""
        if watch is not self._watch:
            return
        for queue in sorted(names & set(c.app.amqp.queues.consume_from)):
            logger.info("queue %s is paused", queue)
            self.held.add(queue)
            c.cancel_task_queue(queue)
        for queue in sorted(self.held - names):
            logger.info("queue %s is resumed", queue)
            self.held.discard(queue)
            c.add_task_queue(queue)


class PauseWatch:
    """A thread that polls which queues are paused.

    Args:
        settings: those of the worker.
        on_change: called with the watch and the names of all paused queues when they have changed.
        sign: called from time to time, after the connection has shown whose tables the worker writes.
    """

    def __init__(
        self, settings: Settings, on_change: Callable[["PauseWatch", frozenset[str]], Any], sign: Callable[[], Any]
    ) -> None:
        self._settings, self._on_change, self._sign = settings, on_change, sign
        self._paused: frozenset[str] | None = None
        self._polled, self._stopped = threading.Event(), threading.Event()
        self._cancel: Callable[[], Any] = lambda: None
        self._thread = threading.Thread(target=self._run, name="queue pauses", daemon=True)
        self._thread.start()

    def first(self) -> frozenset[str] | None:
        """Wait for the first poll and return the paused queues; None if PostgreSQL does not answer in time."""
        self._polled.wait(FIRST_POLL)
        return self._paused

    def stop(self) -> None:
        """Stop polling and close the connection: a worker that ends leaves no session in PostgreSQL."""
        self._stopped.set()
        # Its event loop may have ended by itself.
        with suppress(RuntimeError):
            self._cancel()
        self._thread.join(CLOSING)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._poll_until_stopped())

    async def _poll_until_stopped(self) -> None:
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
        self._cancel = partial(loop.call_soon_threadsafe, task.cancel)
        backoff = ReconnectBackoff("cannot read which queues are paused", "worker")
        while not self._stopped.is_set():
            pause = 0.0
            try:
                async with await self._connect() as connection:
                    sign_at = loop.time()
                    while not self._stopped.is_set():
                        async with asyncio.timeout(max(self._settings.connect_timeout, FIRST_POLL)):
                            if loop.time() >= sign_at:
                                sign_at = loop.time() + SIGN_INTERVAL
                                await installation.learn(connection)
                                self._call(self._sign)
                            await self._poll(connection)
                        backoff.succeeded()
                        await asyncio.sleep(POLL_INTERVAL)
            except Exception as error:
                pause = backoff.failed(translate(error))
            await asyncio.sleep(pause)

    async def _poll(self, connection: Connection) -> None:
        names = frozenset(await pauses.paused(connection, Pausable.QUEUE))
        if names != self._paused:
            self._paused = names
            self._call(self._on_change, self, names)
        self._polled.set()

    def _call(self, callback: Callable[..., Any], *arguments: Any) -> None:
        if not self._stopped.is_set():
            # The worker may have ended by now.
            with suppress(Exception):
                callback(*arguments)

    async def _connect(self) -> Connection:
        return await connect(
            self._settings.database,
            application_name="pattern-storage pauses",
            timeout=self._settings.connect_timeout,
            keepalives=True,
        )
