"""How imports are, for those who watch over them: what has failed, what waits, what beat has decided."""

from dataclasses import dataclass

from psycopg.rows import class_row

from storage.import_runs import Schedule
from storage.operations.base import Connection
from storage.sql import block


@dataclass(frozen=True)
class ImportState:
    """How an import is: one of the imports file that is scheduled, has an open run, or was started in the last week."""

    name: str
    #: Seconds since its oldest open run was due, or was queued by hand; 0 if none is open.
    open: float
    #: When the last run that went well ended, Unix time; None if there is none.
    last_success: float | None
    #: Whether the last run that went well or failed has failed.
    failed: bool


async def measure(connection: Connection) -> list[ImportState]:
    """Return how each import is, by name."""
    async with connection.cursor(row_factory=class_row(ImportState)) as cursor:
        await cursor.execute(block("measure_imports"))
        return await cursor.fetchall()


async def schedules(connection: Connection) -> list[Schedule]:
    """Return every schedule that beat follows, by name."""
    async with connection.cursor(row_factory=class_row(Schedule)) as cursor:
        await cursor.execute(block("list_schedules"))
        return await cursor.fetchall()
