"""Health of imports, for metrics and alerts: failures, open runs, age of beat's last decision."""

from dataclasses import dataclass

from psycopg.rows import class_row

from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block


@dataclass(frozen=True)
class ImportHealth:
    """Health of one import that is scheduled, has an open run, or was started in the last week.

    It is one of the imports file: a file that somebody imported by hand has none.
    """

    name: str
    #: Seconds since its oldest open run was due, or was queued by hand; 0 if none is open.
    open: float
    #: When the last run that went well ended, Unix time; None if there is none.
    last_success: float | None
    #: Whether the last run that went well or failed has failed.
    failed: bool


async def measure(connection: Connection) -> list[ImportHealth]:
    """Return the health of each import, ordered by name."""
    return await fetch_all(connection, class_row(ImportHealth), block("measure_imports"))


async def schedules_age(connection: Connection) -> float | None:
    """Return the seconds since beat last looked at the schedule that waits longest; None if there is none."""
    age: float | None = await fetch_value(connection, block("measure_schedules"))
    return age
