"""The relay, which publishes the jobs that applications wrote into the outbox.

It polls: the outbox is almost always empty, and a poll reads only the end of an index. NOTIFY would announce each
commit at once, but PostgreSQL sends notifications under one lock for the whole cluster, so that all commits of the
application would wait for each other (docs/performance.md has measurements of both).

Any number may run: each locks the rows it publishes and skips those of the others. If one is killed before it
publishes, the rows are unlocked; if it is killed before it marks them, they are published twice, which the ledger makes
harmless.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
from celery import signals

from pattern_storage.config.settings import Settings, environment_settings
from pattern_storage.storage import dead_letters, outbox
from pattern_storage.storage.connection import connect
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.job_options import JobOptions
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.outbox import OutboxJob
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.translation import translate
from pattern_storage.tasks.client import PatternStorageClient, ServiceUnavailable
from pattern_storage.tasks.client.call_options import refuse_impossible
from pattern_storage.tasks.client.outgoing import Outgoing, prepare
from pattern_storage.tasks.observability import metrics
from pattern_storage.tasks.poll_interval import PollInterval
from pattern_storage.tasks.reconnect import ReconnectBackoff

logger = get_logger(__name__)

#: Seconds that a stopping worker waits for the last round trip of its relay.
STOP_TIMEOUT = 10.0


class Relay:
    """Publishes due jobs of the outbox until it is stopped.

    Args:
        settings: servers, poll interval and republish delay.

    Raises:
        SettingsInvalid: if PostgreSQL or the queue is not configured.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = settings.database
        self._client = PatternStorageClient(
            redis_url=settings.redis_url,
            broker_url=settings.broker,
            result_backend_url=settings.result_backend,
            connect_timeout=settings.connect_timeout,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False
        self._stopping = asyncio.Event()

    def run(self) -> None:
        """Publish until `stop` is called. A server that is down is logged once, and tried again until it is back."""
        try:
            asyncio.run(self._run())
        finally:
            self._client.close()

    def sweep(self) -> int:
        """Publish the jobs that are due now, and return their number. Raises StorageError or BrokerUnavailable."""
        try:
            return asyncio.run(self._sweep())
        finally:
            self._client.close()

    def stop(self) -> None:
        """End `run` after its current round trip, without waiting; from any thread or signal handler."""
        self._stopped = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._stopped:
            return
        logger.info("relay: started")
        await self._publish()
        logger.info("relay: stopped")

    async def _sweep(self) -> int:
        total = 0
        try:
            async with await self._connect("sweep") as connection:
                while count := await self._publish_batch(connection):
                    total += count
        except psycopg.Error as error:
            raise translate(error) from error
        return total

    async def _publish(self) -> None:
        """Publish the jobs that are due, then pause until the next poll or until the next job is due."""
        backoff = ReconnectBackoff("cannot publish")
        interval = PollInterval(self._settings.relay_poll_interval)
        while not self._stopping.is_set():
            try:
                async with await self._connect("relay") as connection:
                    while not self._stopping.is_set():
                        started = time.perf_counter()
                        due = await outbox.next_publication(connection)
                        count = await self._publish_batch(connection) if due is not None and due <= 0 else 0
                        backoff.succeeded()
                        pause = interval.after(found=count, took=time.perf_counter() - started)
                        await self._pause(pause if due is None or due <= 0 else min(due, pause))
            except Exception as raised:
                error = raised if isinstance(raised, ServiceUnavailable) else translate(raised)
                await self._pause(backoff.failed(error))

    async def _publish_batch(self, connection: Connection) -> int:
        """Publish one batch at most, in one transaction; return its number of rows."""
        # Twice as long as the broker may take to fail.
        idle = 30.0 + 4 * self._settings.connect_timeout
        async with connection.transaction():
            claimed = await outbox.claim(connection, idle_seconds=idle)
            jobs, errors = _read_jobs([job for job in claimed if not job.finished], self._settings)
            for correlation_id, error in errors.items():
                await dead_letters.move_from_outbox(connection, correlation_id, error)
            if finished := [job.correlation_id for job in claimed if job.finished]:
                await outbox.remove(connection, finished)
            if jobs:
                await asyncio.to_thread(self._client.publish, jobs)
                ids = [job.correlation_id for job in jobs]
                await outbox.mark_published(connection, ids, delay=self._settings.relay_republish_delay)
        metrics.relayed(len(jobs), len(errors))
        for correlation_id, error in errors.items():
            logger.warning("relay: job %s is a dead letter: %s", correlation_id, error)
        return len(claimed)

    async def _connect(self, role: str) -> Connection:
        threshold = self._settings.prepare_threshold
        return await connect(
            self._url,
            application_name=f"pattern-storage {role}",
            timeout=self._settings.connect_timeout,
            prepare_threshold=None if threshold < 0 else threshold,
            keepalives=True,
        )

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until `stop`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def silence_client() -> None:
    """Turn off the client's warning for each attempt to reach a broker that is down: the relay logs that once."""
    logging.getLogger("pattern_storage.tasks.client").setLevel(logging.ERROR)


def _read_jobs(rows: Sequence[OutboxJob], settings: Settings) -> tuple[list[Outgoing], dict[UUID, StorageError]]:
    """Return the jobs of these rows, and by correlation id the errors of those that cannot be sent."""
    jobs: list[Outgoing] = []
    errors: dict[UUID, StorageError] = {}
    for row in rows:
        try:
            options = JobOptions.from_json(row.options)
            refuse_impossible(options, settings)
            jobs.append(prepare(outbox.read(row.correlation_id, row.contract))._replace(options=options))
        except Exception as error:
            errors[row.correlation_id] = translate(error)
    return jobs, errors


_relay: Relay | None = None
_thread: threading.Thread | None = None


@signals.worker_ready.connect
def _start_in_worker(**_: Any) -> None:
    """Start a relay in a worker's main process, if the settings ask for it; never in a forked child."""
    global _relay, _thread
    settings = environment_settings()
    # Celery sends the signal again after it has lost its broker.
    if settings.worker_relay and (_thread is None or not _thread.is_alive()):
        silence_client()
        _relay = Relay(settings)
        _thread = threading.Thread(target=_relay.run, name="outbox-relay", daemon=True)
        _thread.start()


@signals.worker_shutting_down.connect
def _stop_in_worker(**_: Any) -> None:
    if _relay is not None:
        _relay.stop()


@signals.worker_shutdown.connect
def _join_in_worker(**_: Any) -> None:
    if _relay is not None and _thread is not None:
        _relay.stop()
        _thread.join(STOP_TIMEOUT)
