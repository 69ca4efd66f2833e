"""Progress of running imports in PostgreSQL, where every process can read it, also that of the command line's runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block

#: Seconds without progress after which a run is stuck.
STUCK_AFTER = 30.0


@dataclass(frozen=True)
class ProgressReport:
    """The last report of a run: `tasks.imports.run.progress.Progress.to_dict`, and when it last moved."""

    run_id: UUID
    progress: dict[str, Any]
    updated_at: datetime


async def save(connection: Connection, run_id: UUID, progress: Mapping[str, Any]) -> None:
    """Save the progress of a run. It is removed when the run ends."""
    await connection.execute(block("save_progress"), {"run_id": run_id, "progress": Jsonb(dict(progress))})


async def find(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, ProgressReport]:
    """Return the last report of each of these runs that is being executed."""
    reports = await fetch_all(connection, class_row(ProgressReport), block("find_progress"), {"ids": list(ids)})
    return {report.run_id: report for report in reports}


@dataclass(frozen=True)
class StuckRun:
    """A run that reads its source and makes no progress; `updated_at`: when it last did."""

    run_id: UUID
    name: str
    updated_at: datetime


async def stuck(connection: Connection) -> list[StuckRun]:
    """Return the runs that have read nothing for STUCK_AFTER seconds, the longest first."""
    return await fetch_all(connection, class_row(StuckRun), block("stuck_runs"), {"seconds": STUCK_AFTER})
