"""Recorder of a process: counts what Celery's signals, the effect node, the pool, the relay and imports report."""

import asyncio
import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from celery import signals
from psycopg_pool import AsyncConnectionPool

from pattern_storage.config.celeryconfig import IMPORT_TASK, OPERATION_OF_TASK
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.errors import StorageOperationFailed, StorageUnavailable, error_type_of
from pattern_storage.tasks.observability.metrics.instruments import Instruments
from pattern_storage.tasks.second_delivery import is_delivered_again
from pattern_storage.vocabulary import IMPORT_OPERATION, ErrorType, OperationName

logger = get_logger(__name__)

Note = TypeVar("Note", bound=Callable[..., None])

#: Seconds between two readings of a pool. Prometheus scrapes every 15 seconds; a reading costs microseconds.
POOL_INTERVAL = 1.0


def harmless(note: Note) -> Note:
    """Decorate a method that counts something so that it never raises: a full disk must not fail jobs."""

    @functools.wraps(note)
    def noted(self: "Recorder", *args: Any, **kwargs: Any) -> None:
        try:
            note(self, *args, **kwargs)
        except Exception as error:
            self.complain(error)

    return cast(Note, noted)


class Recorder:
    """Counts events of this process and, after a fork, of the child. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._instruments = Instruments()
        # prometheus_client has locks of its own: if a thread, for example the relay's, held one during a fork, it would
        # stay locked for ever in the child. No fork happens while this lock is held.
        self._lock = threading.Lock()
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )
        self._complained = False
        for operation in OPERATION_OF_TASK.values():
            # A rate needs a zero to begin with.
            self._instruments.jobs.labels(operation, "success", "")
            self._instruments.replays.labels(operation)
        signals.task_prerun.connect(self._begun, weak=False)
        signals.task_success.connect(self._succeeded, weak=False)
        signals.task_failure.connect(self._failed, weak=False)
        signals.task_retry.connect(self._retried, weak=False)
        signals.task_revoked.connect(self._revoked, weak=False)

    def complain(self, error: Exception) -> None:
        """Log that something could not be counted; only once, because the reason is the same for every job."""
        if not self._complained:
            self._complained = True
            logger.warning(
                "metrics: not everything is counted: %s", " ".join(f"{type(error).__name__}: {error}".split())
            )

    # --- signals ---

    @harmless
    def _begun(self, task: Any, **_: Any) -> None:
        sent_at = getattr(task.request, "sent_at", None)
        # Only first deliveries: a retry waits on purpose. Messages of a stock producer have no time of sending. An
        # import waits for the imports before it, which `import_open_seconds` measures.
        operation = None if task.name == IMPORT_TASK else OPERATION_OF_TASK.get(task.name)
        if operation and isinstance(sent_at, int | float) and not is_delivered_again(vars(task.request)):
            with self._lock:
                # The clocks of two hosts differ.
                self._instruments.queue_wait.labels(operation).observe(max(time.time() - sent_at, 0.0))

    @harmless
    def _succeeded(self, sender: Any, result: Any, **_: Any) -> None:
        if operation := OPERATION_OF_TASK.get(sender.name):
            self._ended(sender, result["metadata"], "success", "")
            if operation == OperationName.BATCH_INSERT:
                with self._lock:
                    self._instruments.group_size.labels("batch").observe(result["data"]["count"])

    @harmless
    def _failed(self, sender: Any, exception: BaseException, **_: Any) -> None:
        if sender.name not in OPERATION_OF_TASK:
            return
        metadata: Mapping[str, Any] = {}
        if isinstance(exception, StorageOperationFailed):
            metadata = exception.result["metadata"]
        error_type = str(metadata.get("error_type") or error_type_of(type(exception).__name__))
        self._ended(sender, metadata, "dead" if metadata.get("dead_letter") else "failure", error_type)

    @harmless
    def _retried(self, sender: Any, reason: Any = None, **_: Any) -> None:
        if operation := OPERATION_OF_TASK.get(sender.name):
            cause = getattr(reason, "exc", None)
            if isinstance(cause, StorageUnavailable):
                error_type = cause.result["metadata"]["error_type"]
            else:
                error_type = error_type_of(type(cause).__name__)
            with self._lock:
                self._instruments.retries.labels(operation, error_type).inc()

    @harmless
    def _revoked(self, sender: Any, **_: Any) -> None:
        if sender.name in OPERATION_OF_TASK:
            self._ended(sender, {}, "revoked", ErrorType.REVOKED)

    def _ended(self, task: Any, metadata: Mapping[str, Any], outcome: str, error_type: str) -> None:
        operation = OPERATION_OF_TASK[task.name]
        # None where the main process ends a child's job.
        done_at = getattr(task.request, "done_at", None)
        with self._lock:
            # A run is published again while it waits; each message but the first finds that it has ended.
            if operation != IMPORT_OPERATION or not metadata.get("replayed"):
                self._instruments.jobs.labels(operation, outcome, error_type).inc()
            if metadata.get("replayed"):
                self._instruments.replays.labels(operation).inc()
            if done_at is not None:
                self._instruments.result_store.labels(operation).observe(time.perf_counter() - done_at)

    # --- reports of our own code ---

    @harmless
    def observe(self, name: str, value: float, unit: str) -> None:
        """Record a measurement of the effect node."""
        if unit == "ms" and name.endswith("_duration_ms"):
            with self._lock:
                self._instruments.transaction.labels(name.removesuffix("_duration_ms")).observe(value / 1000)

    def watch_pool(self, pool: AsyncConnectionPool[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Read the pool's statistics now and every second, as long as the loop runs."""

        def read() -> None:
            self._read_pool(pool)
            if not pool.closed:
                loop.call_later(POOL_INTERVAL, read)

        loop.call_soon_threadsafe(read)

    @harmless
    def _read_pool(self, pool: AsyncConnectionPool[Any]) -> None:
        stats = pool.get_stats()
        size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
        with self._lock:
            self._instruments.pool_connections.labels("in_use").set(size - idle)
            self._instruments.pool_connections.labels("idle").set(idle)
            self._instruments.pool_limit.set(pool.max_size)
            self._instruments.pool_waiting.set(stats.get("requests_waiting", 0))

    @harmless
    def broker_failed(self) -> None:
        """See `metrics.broker_failed`."""
        with self._lock:
            self._instruments.broker_failures.inc()

    @harmless
    def relayed(self, published: int, refused: int) -> None:
        """See `metrics.relayed`."""
        with self._lock:
            self._instruments.outbox_published.inc(published)
            self._instruments.outbox_refused.inc(refused)

    @harmless
    def imported(self, name: str, rows: Mapping[str, int]) -> None:
        """See `metrics.imported`."""
        with self._lock:
            for outcome, count in rows.items():
                self._instruments.import_rows.labels(name, outcome).inc(count)
