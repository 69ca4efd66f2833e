"""One run of an import: all rows or none, in one transaction, once per run id.

Reading, decompressing and checking block, so they happen in a thread of the run's own; the event loop only passes on
what is ready, and the thread is never more than a chunk ahead of PostgreSQL.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from storage import ModelResult, import_runs, ledger, staging
from storage.errors import AlreadyDone, InternalError, StorageError, TransientError
from storage.import_runs import Counts
from storage.logs import correlated, get_logger
from storage.operations.base import Connection
from storage.sql import block
from storage.staging import Finding
from storage.translation import translate
from tasks.errors import ImportBroken, ImportDelayed, ImportFailed
from tasks.imports.plan import ImportPlan
from tasks.imports.progress import INTERVAL, Progress
from tasks.imports.rejects import TOLD, BadRow, Rejects, bad_rows
from tasks.imports.rows import Rows
from tasks.imports.sources import Source

logger = get_logger(__name__)

T = TypeVar("T")

#: How runs end that are not simply `failed`, by error_type.
STATES = {"import_overlap": "overlapped", "revoked": "cancelled"}


class RunHeld(Exception):
    """Somebody else does this very run at this moment."""


class DryRun(Exception):
    """Everything went well, and nothing of it is to stay."""


class Run:
    """One run.

    Args:
        pool: an open pool of the running event loop; one connection is used, and now and then a second.
        plan: what to do.
        run_id: the row of `import_runs`, and the correlation id.
        rejects: the folder for rows that are wrong.
        seconds: that any statement may take.
        delay: seconds until the run is put on the queue again if it neither ends nor is held.
        max_attempts: times the run may begin; one that never ends kills its worker.
        report: called every second, in a thread, with how far it is.
        force: import the source even if it has not changed.
        dry_run: do everything and roll it back; no run is noted, and no row of `import_runs` is needed.
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
        dry_run: bool = False,
    ) -> None:
        self._pool, self._plan, self.run_id = pool, plan, run_id
        self._seconds, self._delay, self._max_attempts = seconds, delay, max_attempts
        self._report, self._force, self._dry_run = report, force, dry_run
        self._rejects = Rejects(rejects, plan, run_id)
        self._counts = Counts()
        self._version: str | None = None
        self._source: Source | None = None
        self._rows: Rows | None = None
        self._progress = Progress(plan.name)
        #: Whether what was written into the reject file belongs to rows that are stored.
        self._kept = False
        self._started = time.perf_counter()
        self._request = hashlib.sha256(json.dumps(plan.content, sort_keys=True).encode()).digest()
        #: Times this run has begun, this one included.
        self.attempts = 0

    async def execute(self) -> ModelResult:
        """Do the run and return what became of it; it does not raise for a run that failed.

        A failure that may pass has `metadata["retryable"]` and decides nothing; see `give_up`. Every other end is
        entered in ledger and history, and whoever comes again with this id gets it as well.

        Raises RunHeld if somebody else does this run now.
        """
        with correlated(str(self.run_id)):
            try:
                return await self._watched(self._execute())
            except RunHeld:
                raise
            except (ImportDelayed, StorageError) as error:
                if isinstance(error, InternalError):
                    logger.exception("the import failed in a way nobody foresaw")
                if isinstance(error, ImportDelayed | TransientError) and not self._dry_run:
                    return self.failed(error, retryable=True)
                return await self.settle(self.failed(error))
            except ImportFailed as error:
                return await self.settle(self.failed(error))
            finally:
                if not self._kept:
                    self._rejects.discard()

    async def settle(self, failure: ModelResult) -> ModelResult:
        """Enter the run as failed for good, unless it has ended otherwise: return how it ended. Raises StorageError."""
        failure.metadata.pop("retryable", None)
        if self._dry_run:
            return failure
        error_type = str(failure.metadata["error_type"])
        try:
            async with self._pool.connection() as connection, connection.transaction():
                await ledger.enter(connection, self.run_id, self._request, failure)
                await import_runs.finish(
                    connection, self.run_id, STATES.get(error_type, "failed"), self._counts,
                    source_version=self._version, error_type=error_type, error=failure.error,
                )  # fmt: skip
        except Exception as raised:
            error = translate(raised)
            if not isinstance(error, AlreadyDone):
                raise error from raised
            return await self._first_result() or failure
        return failure

    async def _execute(self) -> ModelResult:
        try:
            async with self._pool.connection() as connection:
                if not self._dry_run:
                    if import_runs.run_key(self.run_id) in await import_runs.held_locks(connection):
                        raise RunHeld
                    begun = await import_runs.begin(connection, self.run_id, delay=self._delay)
                    if begun is None or await ledger.find(connection, self.run_id) is not None:
                        raise AlreadyDone("the ledger has this run already")
                    self.attempts = begun
                    if begun > self._max_attempts:
                        raise ImportBroken("worker_lost", f"the import was begun {begun - 1} times and never ended")
                async with connection.transaction():
                    result = await self._transaction(connection)
                    if self._dry_run:
                        raise DryRun
                self._kept = True
        except DryRun:
            pass
        except (ImportFailed, RunHeld):
            raise
        except Exception as raised:
            error = translate(raised)
            if not isinstance(error, AlreadyDone):
                raise error from raised
            first = await self._first_result()
            if first is None:
                raise ImportBroken("unknown_run", f"no import run has the id {self.run_id}") from None
            return first
        return result

    async def _transaction(self, connection: Connection) -> ModelResult:
        """Do everything in the caller's transaction; the ledger decides when it commits."""
        await connection.execute(block("set_timeout"), {"milliseconds": str(round(self._seconds * 1000))})
        if not await import_runs.try_lock(connection, import_runs.run_key(self.run_id)):
            raise RunHeld
        if not await import_runs.try_lock(connection, import_runs.name_key(self._plan.name)):
            raise ImportBroken("import_overlap", f"another run of {self._plan.name!r} has not ended yet")
        state = await self._import(connection)
        result = self._succeeded(state)
        if not self._dry_run:
            await import_runs.finish(connection, self.run_id, state, self._counts, source_version=self._version)
            await ledger.enter(connection, self.run_id, self._request, result)
        return result

    async def _import(self, connection: Connection) -> str:
        """Read, stage and merge; return the state that this ends in."""
        thread = ThreadPoolExecutor(1, "import")
        chunks: Iterator[bytes] | None = None
        try:
            source = self._source = await _in(thread, lambda: Source(self._plan))
            self._version = await _in(thread, source.version)
            if not self._force:
                last = await import_runs.last_version(connection, self._plan.name, self._plan.content)
                if last == self._version:
                    return "unchanged"
            rows = self._rows = Rows(self._plan, source, self._rejects)
            await staging.create(connection)
            chunks = rows.chunks()
            await self._stage(connection, thread, chunks)
            await _in(thread, source.check_unchanged)
            if self._rejects.too_many:
                raise self._rejects.error()
            self._count()
            self._progress.reading_is_over()
            await self._merge(connection, rows)
            self._counts.rows_rejected = self._rejects.count
            await _in(thread, lambda: self._rejects.finish(self._about()))
            return "done"
        finally:
            if chunks is not None:
                # After what the thread is doing now: it closes the files.
                thread.submit(chunks.close)  # type: ignore[attr-defined]  # a generator
            self._count()
            thread.shutdown(wait=False)

    async def _stage(self, connection: Connection, thread: ThreadPoolExecutor, chunks: Iterator[bytes]) -> None:
        """Stream the rows into the staging table; while one chunk is sent, the next is made."""
        async with staging.copy(connection) as copy:
            coming = _in(thread, lambda: next(chunks, None))
            while (chunk := await coming) is not None:
                coming = _in(thread, lambda: next(chunks, None))
                await copy.write(chunk)

    async def _merge(self, connection: Connection, rows: Rows) -> None:
        """Find what is wrong between the rows themselves, then write them by one statement."""
        plan, staged = self._plan, rows.good
        if plan.on_conflict == "error":
            count, found = await staging.find_repeated(connection, limit=TOLD)
            if count:
                raise bad_rows("unique_violation", count, list(map(self._bad, found)))
        else:
            keep_first = plan.on_conflict == "skip"
            self._counts.rows_skipped = await staging.drop_repeated(connection, keep_first=keep_first)
            staged -= self._counts.rows_skipped
        if "parent_pattern_id" in rows.given:
            staged -= await self._reject_orphans(connection)
        inserted, updated = await staging.merge(connection, plan.on_conflict, rows.given)
        if plan.on_conflict == "error" and inserted < staged:
            count, found = await staging.find_taken(connection, limit=TOLD)
            raise bad_rows("unique_violation", count, list(map(self._bad, found)))
        self._counts.rows_inserted, self._counts.rows_updated = inserted, updated
        self._counts.rows_skipped += staged - inserted - updated

    async def _reject_orphans(self, connection: Connection) -> int:
        """Take rows out whose parent does not exist; return how many."""
        count, found = await staging.find_orphans(connection, limit=TOLD)
        if self._rejects.count + count > self._plan.max_bad_rows:
            first = [*self._rejects.first, *map(self._bad, found)][:TOLD]
            raise bad_rows("bad_rows", self._rejects.count + count, first)
        for orphan in await staging.remove_orphans(connection) if count else []:
            self._rejects.add(self._file(orphan.file), orphan.line, orphan.reason, orphan.row)
        return count

    def _bad(self, finding: Finding) -> BadRow:
        place = ""
        if finding.earlier is not None:
            file, line = finding.earlier
            place = f", first in line {line}" if file == finding.file else f", first in {self._file(file)} line {line}"
        return BadRow(self._file(finding.file), finding.line, finding.reason + place)

    def _file(self, number: int) -> str:
        assert self._source is not None  # noqa: S101  # rows come from it
        return self._source.files[number].shown

    # --- while it runs ---

    async def _watched(self, work: Awaitable[ModelResult]) -> ModelResult:
        """Run it, tell how far it is, and end it soon after somebody has cancelled it."""
        running = asyncio.ensure_future(work)
        cancelled = asyncio.Event()
        watching = asyncio.create_task(self._watch(running, cancelled), name="import progress")
        try:
            return await running
        except asyncio.CancelledError:
            if cancelled.is_set() and (first := await self._first_result()):
                return first
            raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, running: "asyncio.Future[ModelResult]", cancelled: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._count()
            if self._report is not None:
                # Redis may be away for a moment: the run goes on.
                with suppress(Exception):
                    await asyncio.to_thread(self._report, self._progress)
            if not self._dry_run and await self._is_cancelled():
                cancelled.set()
                running.cancel()
                return

    async def _is_cancelled(self) -> bool:
        with suppress(Exception):
            async with self._pool.connection(timeout=INTERVAL) as connection:
                found = await ledger.find(connection, self.run_id)
                return found is not None and found[1].metadata.get("error_type") == "revoked"
        return False

    def _count(self) -> None:
        if self._source is not None:
            self._counts.bytes = self._progress.bytes = self._source.bytes_read
            self._progress.bytes_total, self._progress.rows_total = self._source.size, self._source.rows
        if self._rows is not None:
            self._counts.rows_read = self._progress.rows = self._rows.read

    # --- results ---

    async def _first_result(self) -> ModelResult | None:
        """Return what the ledger has under this id, marked `replayed`, and note a run that was cancelled as such."""
        async with self._pool.connection() as connection:
            found = await ledger.find(connection, self.run_id)
            if found is None:
                return None
            result = found[1]
            error_type = result.metadata.get("error_type")
            if error_type == "revoked":
                await import_runs.finish(
                    connection, self.run_id, "cancelled", self._counts, error_type=error_type, error=result.error
                )
        result.metadata["replayed"] = True
        return result

    def _about(self) -> dict[str, Any]:
        return {"run_id": str(self.run_id), "name": self._plan.name, "source": self._plan.source, **vars(self._counts)}

    def _succeeded(self, state: str) -> ModelResult:
        data = {
            "run_id": str(self.run_id),
            "name": self._plan.name,
            "state": state,
            **vars(self._counts),
            "source_version": self._version,
            "reject_file": str(self._rejects.path) if self._rejects.count else None,
        }
        return ModelResult(success=True, data=data, metadata=self._metadata())

    def failed(self, error: ImportFailed | StorageError, *, retryable: bool = False) -> ModelResult:
        """Return the result of a run that ended with this error; see `settle`."""
        metadata = self._metadata() | {"error_type": error.error_type, **error.fields}
        metadata.pop("retryable", None)
        if retryable:
            metadata["retryable"] = True
        return ModelResult(success=False, error=str(error), metadata=metadata)

    def _metadata(self) -> dict[str, Any]:
        return {
            "correlation_id": str(self.run_id),
            "operation": "import",
            "duration_ms": (time.perf_counter() - self._started) * 1000,
        }


def _in(thread: ThreadPoolExecutor, function: Callable[[], T]) -> "asyncio.Future[T]":
    future = asyncio.get_running_loop().run_in_executor(thread, function)
    # A run that ends meanwhile does not come back to hear what went wrong.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
