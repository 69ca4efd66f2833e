"""Open runs: an import has one at a time that has not ended, whether it waits or is executed."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from pattern_storage.storage.errors import RunOpen
from pattern_storage.storage.import_locks import open_runs_key
from pattern_storage.storage.import_runs import ImportRun, add, add_skipped, fetch_runs
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import ImportRunState


async def add_scheduled(connection: Connection, run_id: UUID, name: str, due: datetime, plan: dict[str, Any]) -> None:
    """Insert the run of a due time, in the caller's transaction: queued, or overlapped if one has not ended."""
    await connection.execute(block("lock_open_runs"), {"key": open_runs_key(name)})
    present = await find_open(connection, name)
    if present is None or present.run_id == run_id:
        await add(connection, run_id, name, due, plan)
        return
    overlap = RunOpen(name, present.run_id)
    state = ImportRunState.OVERLAPPED
    await add_skipped(connection, run_id, name, due, plan, state, str(overlap), overlap.error_type)


async def start(connection: Connection, name: str, plan: dict[str, Any], *, force: bool = False) -> UUID:
    """Insert a queued run by hand and return its id. Raises RunOpen if a run of the import has not ended."""
    run_id = uuid4()
    async with connection.transaction():
        await connection.execute(block("lock_open_runs"), {"key": open_runs_key(name)})
        if present := await find_open(connection, name):
            raise RunOpen(name, present.run_id)
        await add(connection, run_id, name, None, plan, force=force)
    return run_id


async def find_open(connection: Connection, name: str) -> ImportRun | None:
    """Return the run of an import that has not ended; the oldest, if an older release left several."""
    runs = await list_open(connection, name, limit=1)
    return runs[0] if runs else None


async def list_open(connection: Connection, name: str | None = None, *, limit: int = 100) -> list[ImportRun]:
    """Return runs that have not ended, of one import or of all, the oldest first."""
    return await fetch_runs(connection, block("list_open_runs"), {"name": name, "limit": limit})
