"""Paused queues: a worker takes no message from them, until an operator resumes them.

PostgreSQL has the pauses, so they outlast restarts of everything, and hold on every broker. Each worker looks once a
second, on a connection of its own. A job that it had taken before the pause goes on.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

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

#: Seconds between two looks.
LOOK_INTERVAL = 1.0
#: Seconds that the start of a worker waits for the first look: without PostgreSQL no job could be done anyway.
FIRST_LOOK = 3.0
#: Seconds that a worker which ends waits for the connection to be closed.
CLOSING = 3.0


class QueuePauses(bootsteps.StartStopStep):
    """Bootstep of a worker's consumer that stops and starts consuming from queues."""

    requires = (Tasks,)

    def __init__(self, c: Any, **options: Any) -> None:
        super().__init__(c, **options)
        #: Queues of this worker that are not consumed from because they are paused.
        self.held: set[str] = set()
        self._watch: PauseWatch | None = None

    def start(self, c: Any) -> None:
        """Begin to obey, for each connection to the broker anew, before the first message is taken."""
        watch: PauseWatch
        watch = PauseWatch(
            environment_settings(),
            lambda names: c.call_soon(self.obey, c, watch, names),
            lambda: c.call_soon(installation.sign, c),
        )
        self._watch = watch
        if (names := watch.first()) is not None:
            self.obey(c, watch, names)

    def stop(self, c: Any) -> None:
        """End the looks; the next start begins anew."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    shutdown = stop

    def obey(self, c: Any, watch: "PauseWatch", names: frozenset[str]) -> None:
        """Stop consuming from queues that are paused, and start again with those that are not any more."""
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
    """A thread that looks which queues are paused, and tells when that has changed.

    Its connection also finds out whose tables the worker writes; `sign` is called then, and from time to time.
    """

    def __init__(self, settings: Settings, tell: Callable[[frozenset[str]], Any], sign: Callable[[], Any]) -> None:
        self._settings, self._tell, self._sign = settings, tell, sign
        self._known: frozenset[str] | None = None
        self._looked, self._stopped = threading.Event(), threading.Event()
        self._cancel: Callable[[], Any] = lambda: None
        self._thread = threading.Thread(target=self._run, name="queue pauses", daemon=True)
        self._thread.start()

    def first(self) -> frozenset[str] | None:
        """Wait for the first look and return what is paused; None if PostgreSQL did not answer in time."""
        self._looked.wait(FIRST_LOOK)
        return self._known

    def stop(self) -> None:
        """Look no more, and close the connection: a worker that ends leaves none to PostgreSQL."""
        self._stopped.set()
        self._cancel()
        self._thread.join(CLOSING)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._look_again_and_again())

    async def _look_again_and_again(self) -> None:
        self._cancel = partial(_cancel, asyncio.get_running_loop(), asyncio.current_task())
        backoff, loop = ReconnectBackoff("cannot see", "paused queues"), asyncio.get_running_loop()
        while not self._stopped.is_set():
            pause = 0.0
            try:
                async with await self._connect() as connection:
                    sign_at = loop.time()
                    while not self._stopped.is_set():
                        async with asyncio.timeout(max(self._settings.connect_timeout, FIRST_LOOK)):
                            if loop.time() >= sign_at:
                                sign_at = loop.time() + SIGN_INTERVAL
                                await installation.learn(connection)
                                self._call(self._sign)
                            await self._look(connection)
                        backoff.succeeded()
                        await asyncio.sleep(LOOK_INTERVAL)
            except Exception as error:
                pause = backoff.failed(translate(error))
            await asyncio.sleep(pause)

    async def _look(self, connection: Connection) -> None:
        names = frozenset(await pauses.paused(connection, Pausable.QUEUE))
        if names != self._known:
            self._known = names
            self._call(self._tell, names)
        self._looked.set()

    def _call(self, told: Callable[..., Any], *arguments: Any) -> None:
        if not self._stopped.is_set():
            # Its worker may be gone by now.
            with suppress(Exception):
                told(*arguments)

    async def _connect(self) -> Connection:
        return await connect(
            self._settings.database,
            application_name="pattern-storage pauses",
            timeout=self._settings.connect_timeout,
            keepalives=True,
        )


def _cancel(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any] | None") -> None:
    """Cancel a task of a loop that runs in another thread, or has ended by itself."""
    with suppress(RuntimeError):
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)
