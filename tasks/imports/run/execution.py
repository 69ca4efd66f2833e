"""Execution of one import run: all rows or none, in one transaction, once for each run id."""

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, Rollback
from psycopg_pool import AsyncConnectionPool

from pattern_storage.storage import ModelResult, import_locks, import_progress, import_runs, ledger
from pattern_storage.storage.errors import AlreadyDone, InternalError, StorageError, TransientError
from pattern_storage.storage.import_runs import Counts
from pattern_storage.storage.logs import correlated, get_logger
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.sql import block
from pattern_storage.storage.translation import translate
from pattern_storage.tasks.errors import ImportBroken, ImportDelayed, ImportFailed
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.run.monitor import RunCancelled, monitored
from pattern_storage.tasks.imports.run.outcome import record_failure, recorded_result
from pattern_storage.tasks.imports.run.progress import INTERVAL, Progress
from pattern_storage.tasks.imports.run.rejects import Rejects
from pattern_storage.tasks.imports.run.transfer import Transfer
from pattern_storage.tasks.worker.last_failure import LastFailure
from pattern_storage.vocabulary import IMPORT_OPERATION, ErrorType

logger = get_logger(__name__)


class RunLocked(Exception):
    """Another process holds this run's advisory lock: it executes the run now."""


class RunExecutor:
    """One execution of one run.

    Args:
        pool: an open pool of the running event loop; one connection is used, and now and then a second.
        plan: the import plan.
        run_id: the key of `import_runs`, and the correlation id.
        rejects: the folder for rejected rows.
        seconds: statement timeout.
        delay: seconds until the run is published again if it has neither ended nor is locked.
        max_attempts: the limit of attempts, also of a run that kills its worker each time.
        report: called every second with the progress, in a thread.
        force: import the source even if it has not changed.
        refusal: raised instead of executing the run; the attempt counts.
        last_failure: the reason of the last attempt's end, if it is known.
        dry_run: do everything and roll it back, without a row of `import_runs`.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection[Any]],
        plan: ImportPlan,
        run_id: UUID,
        *,
        rejects: Path,
        seconds: float,
        delay: float = 60.0,
        max_attempts: int = 5,
        report: Callable[[Progress], None] | None = None,
        force: bool = False,
        refusal: TransientError | None = None,
        last_failure: LastFailure | None = None,
        dry_run: bool = False,
    ) -> None:
        self._pool, self._plan, self.run_id = pool, plan, run_id
        self._seconds, self._delay, self._max_attempts = seconds, delay, max_attempts
        self._report, self._force, self._refusal, self._dry_run = report, force, refusal, dry_run
        self._last_failure = last_failure
        self._rejects = Rejects(rejects, plan, run_id)
        self._transfer = Transfer(plan, self._rejects)
        #: Whether the reject file is kept, because the other rows are stored.
        self._kept = False
        self._started = time.perf_counter()
        self._request = hashlib.sha256(json.dumps(plan.content, sort_keys=True).encode()).digest()
        #: Attempts of this run, this one included.
        self.attempts = 0
        #: Whether the transaction holds the run's advisory lock; until then publication is postponed again and again.
        self._locked = False
        self._postpone_at = math.inf

    @property
    def name(self) -> str:
        """The import's name."""
        return self._plan.name

    @property
    def counts(self) -> Counts:
        """The rows so far by outcome."""
        return self._transfer.counts

    async def execute(self) -> ModelResult:
        """Execute the run and return its result, also that of a failed run.

        A transient failure has `metadata["retryable"]` and is not recorded; see `record_failure`. Every other result
        is recorded in ledger and history, and a second execution with this id returns the recorded one.

        Raises RunLocked if another process executes this run now.
        """
        with correlated(str(self.run_id)):
            try:
                report = self._report
                return await monitored(
                    self._execute(),
                    count=self._transfer.count,
                    report=(lambda: report(self._transfer.progress)) if report else None,
                    is_cancelled=None if self._dry_run else self._is_cancelled,
                )
            except RunCancelled:
                return await self._recorded_result()
            except (ImportFailed, StorageError) as error:
                if isinstance(error, InternalError):
                    logger.exception("the import failed with an unexpected error")
                if isinstance(error, ImportDelayed | TransientError) and not self._dry_run:
                    return self.failed(error, retryable=True)
                return await self.record_failure(self.failed(error))
            finally:
                if not self._kept:
                    self._rejects.discard()

    async def record_failure(self, failure: ModelResult) -> ModelResult:
        """Record the run as failed, unless it has ended already; return its final result. Raises StorageError."""
        failure.metadata.pop("retryable", None)
        if self._dry_run:
            return failure
        return await record_failure(
            self._pool, self.run_id, self.name, self._request, failure, self._transfer.counts, self._transfer.version
        )

    def failed(self, error: ImportFailed | StorageError, *, retryable: bool = False) -> ModelResult:
        """Return the result of a run that ended with this error; see `record_failure`."""
        fields = {name: value for name, value in error.fields.items() if name != "retryable"}
        if retryable:
            fields["retryable"] = True
        return ModelResult.failure(str(error), error.error_type, **self._metadata(), **fields)

    def _metadata(self) -> dict[str, Any]:
        took = round((time.perf_counter() - self._started) * 1000, 3)
        return {"correlation_id": str(self.run_id), "operation": IMPORT_OPERATION, "duration_ms": took}

    async def _execute(self) -> ModelResult:
        try:
            if not self._dry_run:
                await self._begin()
            # No transaction is open meanwhile: the source's server may be slow, and a checksum takes long.
            await self._transfer.find_source()
            async with self._pool.connection() as connection, connection.transaction():
                result = await self._transaction(connection)
                if self._dry_run:
                    raise Rollback
                # Before the commit: if the connection is lost in it, the rows may be stored.
                self._kept = True
            return result
        except (ImportFailed, RunLocked):
            raise
        except Exception as raised:
            error = translate(raised)
            if not isinstance(error, AlreadyDone):
                raise error from raised
            return await self._recorded_result()
        finally:
            self._transfer.close()

    async def _begin(self) -> None:
        """Begin an attempt, unless the run has ended, is being executed, or would overlap with another."""
        async with self._pool.connection() as connection:
            held = await import_locks.held_locks(connection)
            if import_locks.run_lock_key(self.run_id) in held:
                raise RunLocked
            begun = await import_runs.begin(connection, self.run_id, delay=self._delay)
            self._postpone_at = time.monotonic() + self._delay / 3
            if begun is None or await ledger.find(connection, self.run_id) is not None:
                raise AlreadyDone("the ledger has this run already")
            self.attempts = begun
            if begun > self._max_attempts:
                kind, reason = self._last_failure or (ErrorType.WORKER_LOST, "its worker was killed or lost each time")
                raise ImportBroken(kind, f"the import was begun {begun - 1} times and never ended: {reason}")
            if self._refusal:
                raise self._refusal
            if import_locks.name_lock_key(self.name) in held:
                raise self._overlap()

    def _overlap(self) -> ImportBroken:
        return ImportBroken(ErrorType.IMPORT_OVERLAP, f"another run of {self.name!r} has not ended yet")

    async def _recorded_result(self) -> ModelResult:
        """Return the recorded result of the run. Raises ImportBroken if there is no such run."""
        result = await recorded_result(self._pool, self.run_id)
        if result is None:
            raise ImportBroken(ErrorType.UNKNOWN_RUN, f"no import run has the id {self.run_id}")
        return result

    async def _transaction(self, connection: Connection) -> ModelResult:
        """Import the source and record the result, all in the caller's transaction."""
        limits = {"statement": str(round(self._seconds * 1000)), "lock": None}
        await connection.execute(block("set_limits"), limits)
        await import_locks.lift_transaction_timeouts(connection)
        await import_locks.set_keepalives(connection)
        if not await import_locks.try_lock(connection, import_locks.run_lock_key(self.run_id)):
            raise RunLocked
        self._locked = True
        if not await import_locks.try_lock(connection, import_locks.name_lock_key(self.name)):
            raise self._overlap()
        if not self._dry_run and await ledger.find(connection, self.run_id) is not None:
            raise AlreadyDone("the ledger has this run already")
        state = await self._transfer.run(connection, force=self._force)
        counts, version = self._transfer.counts, self._transfer.version
        about = {"run_id": str(self.run_id), "name": self.name, "state": state, **vars(counts)}
        file = str(self._rejects.path) if self._rejects.count and not self._dry_run else None
        data = about | {"source_version": version, "reject_file": file}
        result = ModelResult(success=True, data=data, metadata=self._metadata())
        if not self._dry_run:
            await asyncio.to_thread(self._rejects.write_report, about)
            await ledger.record_result(connection, self.run_id, self._request, result, self.name)
            await import_runs.finish(connection, self.run_id, state, counts, source_version=version)
        return result

    async def _is_cancelled(self) -> bool:
        with suppress(Exception):
            async with self._pool.connection(timeout=INTERVAL) as connection:
                if not self._locked and time.monotonic() >= self._postpone_at:
                    # Otherwise it would be published again, like a run whose worker is lost: see `import_runs.claim`.
                    self._postpone_at = time.monotonic() + self._delay / 3
                    await import_runs.postpone(connection, self.run_id, delay=self._delay)
                await import_progress.save(connection, self.run_id, self._transfer.progress.to_dict())
                found = await ledger.find(connection, self.run_id)
                return found is not None and found[1].metadata.get("error_type") == ErrorType.REVOKED
        return False
