"""Transfer of a source into the table, in the caller's transaction: read, validate, stage, merge.

Reading, decompressing and validating block, so a thread does them; the event loop only sends the chunks, and the thread
is never more than one chunk ahead of PostgreSQL.
"""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import psycopg
from psycopg import AsyncCopy

from pattern_storage.storage import import_runs, secondary_indexes, staging
from pattern_storage.storage.import_runs import Counts
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.secondary_indexes import SecondaryIndex
from pattern_storage.storage.staging import RejectedRow
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.run.progress import Progress
from pattern_storage.tasks.imports.run.rejects import MAX_REPORTED, BadRow, Rejects, bad_rows_error
from pattern_storage.tasks.imports.run.validation import ValidatedRows
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.vocabulary import ErrorType, ImportRunState

logger = get_logger(__name__)

T = TypeVar("T")


class Transfer:
    """The transfer of one source; rejected rows go to `rejects`."""

    def __init__(self, plan: ImportPlan, rejects: Rejects) -> None:
        self._plan, self._rejects = plan, rejects
        self._thread = ThreadPoolExecutor(1, "import")
        self._source: Source | None = None
        self._chunks: Generator[bytes, None, None] | None = None
        self._rows: ValidatedRows | None = None
        #: Version of the source; None before `find_source`.
        self.version: str | None = None
        self.counts = Counts()
        self.progress = Progress(plan.name)

    async def find_source(self) -> None:
        """Find the source's files and its version; needs no connection. Raises ImportFailed."""
        self._source = await self._in_thread(lambda: Source(self._plan))
        self.version = await self._in_thread(self._source.version)

    async def run(self, connection: Connection, *, force: bool) -> ImportRunState:
        """Transfer the source; return the run's final state: `unchanged` if the source's version is, else `done`.

        Raises ImportFailed, StorageError or psycopg.Error; the caller's transaction must then roll back.
        """
        last = await import_runs.last_version(connection, self._plan.name, self._plan.content)
        if last == self.version and not force:
            return ImportRunState.UNCHANGED
        if not await self._load_directly(connection):
            await staging.create(connection)
            rows = await self._read(staging.copy(connection), places=True)
            self.progress.end_reading("merging")
            await self._merge(connection, rows)
            self.count()
        return ImportRunState.DONE

    async def _load_directly(self, connection: Connection) -> bool:
        """Load an empty table without the staging table; return False, with nothing written, if that is not possible.

        Rows are written once instead of twice. A duplicate row, or one whose parent does not exist, ends the COPY with
        an error that does not name its line: the source is then read again, into the staging table. Only a first load
        is done this way: single jobs that write the same patterns wait for it while the source is read.
        """
        if not await staging.is_first_load(connection):
            return False
        try:
            async with connection.transaction():
                indexes = await self._drop_indexes(connection) if self._plan.build_indexes_last else []
                rows = await self._read(staging.copy_directly(connection), places=False)
                for number, index in enumerate(indexes):
                    self.progress.end_reading(f"index {number + 1} of {len(indexes)}")
                    await secondary_indexes.build(connection, index)
        except (psycopg.errors.UniqueViolation, psycopg.errors.ForeignKeyViolation):
            if self._chunks is not None:
                await self._in_thread(self._chunks.close)
            self._rejects.start_over()
            return False
        self.counts.rows_inserted = rows.valid
        return True

    async def _drop_indexes(self, connection: Connection) -> list[SecondaryIndex]:
        if await secondary_indexes.may_rebuild(connection):
            return await secondary_indexes.drop(connection)
        logger.warning("build_indexes_last has no effect: the database role does not own the table")
        return []

    async def _read(self, copying: AbstractAsyncContextManager[AsyncCopy], *, places: bool) -> ValidatedRows:
        """Read, validate and copy all rows of the source. Raises ImportFailed."""
        assert self._source is not None  # noqa: S101  # find_source comes first
        self._source.bytes_read = 0
        rows = self._rows = ValidatedRows(self._plan, self._source, self._rejects)
        chunks = self._chunks = rows.chunks(places=places)
        async with copying as copy:
            # While one chunk is sent, the next is made.
            following = self._in_thread(lambda: next(chunks, None))
            while (chunk := await following) is not None:
                following = self._in_thread(lambda: next(chunks, None))
                await copy.write(chunk)
        await self._in_thread(self._source.check_unchanged)
        if self._rejects.too_many:
            raise bad_rows_error(ErrorType.BAD_ROWS, self._rejects.count, self._rejects.first)
        self.count()
        return rows

    def close(self) -> None:
        """Close the files and end the thread after its current call, without waiting for it."""
        if self._chunks is not None:
            self._thread.submit(self._chunks.close)
        self.count()
        self._thread.shutdown(wait=False)

    def count(self) -> None:
        """Update counts and progress with the rows and bytes that the thread has read so far."""
        if self._source is not None:
            self.counts.bytes = self.progress.bytes = self._source.bytes_read
            self.progress.bytes_total, self.progress.rows_total = self._source.size, self._source.rows
        if self._rows is not None:
            self.counts.rows_read = self.progress.rows = self._rows.read
        self.counts.rows_rejected = self._rejects.count

    async def _merge(self, connection: Connection, rows: ValidatedRows) -> None:
        """Resolve duplicates and missing parents among the staged rows, then merge them by one statement."""
        plan, orphans = self._plan, 0
        if plan.on_conflict == "error":
            count, found = await staging.find_duplicates(connection, limit=MAX_REPORTED)
            if count:
                raise bad_rows_error(ErrorType.UNIQUE_VIOLATION, count, list(map(self._bad, found)))
        else:
            await staging.drop_duplicates(connection, keep_first=plan.on_conflict == "skip")
        if "parent_pattern_id" in rows.columns:
            orphans = await self._reject_orphans(connection)
        inserted, updated = await staging.merge(connection, plan.on_conflict, rows.columns)
        if plan.on_conflict == "error" and inserted < rows.valid - orphans:
            count, found = await staging.find_existing(connection, limit=MAX_REPORTED)
            raise bad_rows_error(ErrorType.UNIQUE_VIOLATION, count, list(map(self._bad, found)))
        self.counts.rows_inserted, self.counts.rows_updated = inserted, updated
        self.counts.rows_skipped = rows.valid - orphans - inserted - updated

    async def _reject_orphans(self, connection: Connection) -> int:
        """Reject rows whose parent does not exist; return how many."""
        count, found = await staging.find_orphans(connection, limit=MAX_REPORTED)
        if self._rejects.count + count > self._plan.max_bad_rows:
            first = [*self._rejects.first, *map(self._bad, found)][:MAX_REPORTED]
            raise bad_rows_error(ErrorType.BAD_ROWS, self._rejects.count + count, first)
        for orphan in await staging.remove_orphans(connection) if count else []:
            self._rejects.add(self._file(orphan.file), orphan.line, orphan.reason, orphan.row)
        return count

    def _bad(self, finding: RejectedRow) -> BadRow:
        place = ""
        if finding.earlier is not None:
            file, line = finding.earlier
            place = f", first in line {line}" if file == finding.file else f", first in {self._file(file)} line {line}"
        return BadRow(self._file(finding.file), finding.line, finding.reason + place)

    def _file(self, number: int) -> str:
        assert self._source is not None  # noqa: S101  # rows come from it
        return self._source.files[number].display_name

    def _in_thread(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        future = asyncio.get_running_loop().run_in_executor(self._thread, function)
        # asyncio would log an exception that is not retrieved, as when the run ends meanwhile.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future
