"""Listens to Celery's signals, the effect node, the pool and the relay, and counts."""

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from celery import signals
from psycopg_pool import AsyncConnectionPool

from pattern_storage.config.celeryconfig import OPERATIONS
from pattern_storage.tasks.client.results import error_type_of
from pattern_storage.tasks.errors import StorageOperationFailed, StorageUnavailable
from pattern_storage.tasks.imports.publisher import TASK
from pattern_storage.tasks.observability.metrics.instruments import Instruments
from pattern_storage.tasks.worker.task import StorageTask

#: Seconds between two looks at a pool. Prometheus looks every 15 seconds; a look costs microseconds.
POOL_INTERVAL = 1.0

#: What runs of imports are counted as. Their wait for one another is `import_open_seconds`.
IMPORT = "import"


class Recorder:
    """Counts what happens in this process and, after a fork, in the child.

    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._instruments = Instruments()
        # prometheus_client has locks of its own: a thread that held one in the moment of a fork, as the relay's
        # might, would leave it locked for ever in the child. Nobody forks while this lock is held.
        self._lock = threading.Lock()
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )
        for operation in (*OPERATIONS, IMPORT):
            # A rate needs a zero to begin with.
            self._instruments.jobs.labels(operation, "success", "")
            self._instruments.replays.labels(operation)
        signals.task_prerun.connect(self._begun, weak=False)
        signals.task_success.connect(self._succeeded, weak=False)
        signals.task_failure.connect(self._failed, weak=False)
        signals.task_retry.connect(self._retried, weak=False)
        signals.task_revoked.connect(self._revoked, weak=False)

    # --- signals ---

    def _begun(self, task: Any, **_: Any) -> None:
        sent_at = getattr(task.request, "sent_at", None)
        again = task.request.retries or (task.request.delivery_info or {}).get("redelivered")
        # Only the first delivery: a retry waits because it is told to. A stock producer does not say when it sent.
        if isinstance(task, StorageTask) and isinstance(sent_at, int | float) and not again:
            with self._lock:
                # Two hosts, two clocks.
                self._instruments.queue_wait.labels(_operation(task)).observe(max(time.time() - sent_at, 0.0))

    def _succeeded(self, sender: Any, result: Any, **_: Any) -> None:
        if _is_ours(sender):
            operation = _operation(sender)
            self._ended(sender, result["metadata"], "success", "")
            if operation == "batch_insert":
                with self._lock:
                    self._instruments.group_size.labels("batch").observe(result["data"]["count"])

    def _failed(self, sender: Any, exception: BaseException, **_: Any) -> None:
        if not _is_ours(sender):
            return
        metadata: Mapping[str, Any] = {}
        if isinstance(exception, StorageOperationFailed):
            metadata = exception.result["metadata"]
        error_type = str(metadata.get("error_type") or error_type_of(type(exception).__name__))
        self._ended(sender, metadata, "dead_letter" if metadata.get("dead_letter") else "failure", error_type)

    def _retried(self, sender: Any, reason: Any = None, **_: Any) -> None:
        if _is_ours(sender):
            cause = getattr(reason, "exc", None)
            if isinstance(cause, StorageUnavailable):
                error_type = cause.result["metadata"]["error_type"]
            else:
                error_type = error_type_of(type(cause).__name__)
            with self._lock:
                self._instruments.retries.labels(_operation(sender), error_type).inc()

    def _revoked(self, sender: Any, **_: Any) -> None:
        if _is_ours(sender):
            self._ended(sender, {}, "revoked", "revoked")

    def _ended(self, task: Any, metadata: Mapping[str, Any], outcome: str, error_type: str) -> None:
        operation = _operation(task)
        # None where the main process ends the job of a child.
        done_at = getattr(task.request, "done_at", None)
        with self._lock:
            self._instruments.jobs.labels(operation, outcome, error_type).inc()
            if metadata.get("replayed"):
                self._instruments.replays.labels(operation).inc()
            if done_at is not None:
                self._instruments.result_store.labels(operation).observe(time.perf_counter() - done_at)

    # --- what others tell ---

    def observe(self, name: str, value: float, unit: str) -> None:
        """Note a measurement of the effect node."""
        if unit == "ms" and name.endswith("_duration_ms"):
            with self._lock:
                self._instruments.transaction.labels(name.removesuffix("_duration_ms")).observe(value / 1000)

    def watch_pool(self, pool: AsyncConnectionPool[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Look at the pool now and every second, as long as the loop runs."""

        def look() -> None:
            stats = pool.get_stats()
            size, idle = stats.get("pool_size", 0), stats.get("pool_available", 0)
            with self._lock:
                self._instruments.pool_connections.labels("in_use").set(size - idle)
                self._instruments.pool_connections.labels("idle").set(idle)
                self._instruments.pool_limit.set(pool.max_size)
                self._instruments.pool_waiting.set(stats.get("requests_waiting", 0))
            if not pool.closed:
                loop.call_later(POOL_INTERVAL, look)

        loop.call_soon_threadsafe(look)

    def relayed(self, published: int, refused: int) -> None:
        """Note what a relay did."""
        with self._lock:
            self._instruments.outbox_published.inc(published)
            self._instruments.outbox_refused.inc(refused)

    def imported(self, name: str, rows: Mapping[str, int]) -> None:
        """Note one run of an import."""
        with self._lock:
            for outcome, count in rows.items():
                self._instruments.import_rows.labels(name, outcome).inc(count)


def _is_ours(task: Any) -> bool:
    return isinstance(task, StorageTask) or task.name == TASK


def _operation(task: Any) -> str:
    return IMPORT if task.name == TASK else str(task.name).rpartition(".")[2]
