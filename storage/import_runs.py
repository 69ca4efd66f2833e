"""Table `import_runs`: runs that are queued, running or ended.

A run is a row before it is a message, like a job of the outbox, and stays open until it has ended. The transaction of
a running one holds an advisory lock, so an open run that is not locked has lost its worker or its message: it is
published again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID, uuid5

from psycopg.rows import class_row, tuple_row
from psycopg.types.json import Jsonb

from pattern_storage.storage.import_locks import held_locks, run_lock_key
from pattern_storage.storage.model_contract_pattern_storage import ModelResult
from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import IMPORT_OPERATION, SUCCESSFUL_RUN_STATES, ErrorType, ImportRunState

#: UUID namespace of the ids of scheduled runs.
NAMESPACE = UUID("1d1ad6a5-0f0e-4c0a-9f40-5a1f5e0f7c3e")

#: Runs published at once.
CLAIM_LIMIT = 100


@dataclass(frozen=True)
class ImportRun:
    """A row of `import_runs`. Times have a time zone; `due` is None for a run that somebody started by hand."""

    run_id: UUID
    name: str
    due: datetime | None
    plan: dict[str, Any]
    force: bool
    state: str
    queued_at: datetime
    publish_after: datetime
    published: int
    attempts: int
    started_at: datetime | None
    finished_at: datetime | None
    rows_read: int
    rows_inserted: int
    rows_updated: int
    rows_skipped: int
    rows_rejected: int
    bytes: int
    source_version: str | None
    error_type: str | None
    error: str | None

    @property
    def result(self) -> ModelResult:
        """The run's result rebuilt from its row, marked `replayed`: for when the ledger has been purged."""
        began = self.started_at or self.queued_at
        took = round((self.finished_at - began).total_seconds() * 1000, 3) if self.finished_at else None
        if self.state not in SUCCESSFUL_RUN_STATES:
            return ModelResult.failure(
                self.error or "",
                self.error_type or self.state,
                correlation_id=self.run_id,
                operation=IMPORT_OPERATION,
                duration_ms=took,
                replayed=True,
            )
        metadata = {
            "correlation_id": str(self.run_id),
            "operation": IMPORT_OPERATION,
            "duration_ms": took,
            "replayed": True,
        }
        data = {name: getattr(self, name) for name in ("name", "state", *vars(Counts()), "source_version")}
        data |= {"run_id": str(self.run_id), "reject_file": None}
        return ModelResult(success=True, data=data, metadata=metadata)


@dataclass
class Counts:
    """Rows of a run by outcome, and the bytes of the source that were read."""

    rows_read: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_skipped: int = 0
    rows_rejected: int = 0
    bytes: int = 0


def scheduled_run_id(name: str, due: datetime) -> UUID:
    """Return the id of the run that is due then, the same for every beat."""
    return uuid5(NAMESPACE, f"{name} {due.timestamp():.0f}")


async def add(
    connection: Connection,
    run_id: UUID,
    name: str,
    due: datetime | None,
    plan: dict[str, Any],
    *,
    force: bool = False,
    publish: bool = True,
) -> bool:
    """Insert a queued run; return whether it is new.

    Args:
        connection: writes it.
        run_id: see `scheduled_run_id`; a new one for a run by hand.
        name: of the import.
        due: when it is due, None for a run by hand.
        plan: the import plan, see `tasks.imports.plan.model`.
        force: even if the source has not changed.
        publish: whether it is to be published; otherwise the caller executes it.
    """
    values = {"run_id": run_id, "name": name, "due": due, "plan": Jsonb(plan), "force": force, "publish": publish}
    return (await connection.execute(block("add_run"), values)).rowcount == 1


async def add_skipped(
    connection: Connection,
    run_id: UUID,
    name: str,
    due: datetime,
    plan: dict[str, Any],
    state: ImportRunState,
    error: str,
    error_type: ErrorType | None = None,
) -> None:
    """Insert the run of a due time that is skipped, in its final state: `overlapped` or `missed`."""
    values = {"run_id": run_id, "name": name, "due": due, "plan": Jsonb(plan)}
    await connection.execute(
        block("add_skipped_run"), values | {"state": state, "error": error, "error_type": error_type}
    )


async def begin(connection: Connection, run_id: UUID, *, delay: float) -> int | None:
    """Set the run to running; return its attempts, None if it has ended or does not exist.

    Unless it is locked then, it is published again `delay` seconds from now.
    """
    attempts: int | None = await fetch_value(connection, block("begin_run"), {"run_id": run_id, "delay": delay})
    return attempts


async def postpone(connection: Connection, run_id: UUID, *, delay: float) -> None:
    """Postpone the run's next publication by `delay` seconds: it is on the queue."""
    await connection.execute(block("postpone_run"), {"run_id": run_id, "delay": delay})


async def uncount_attempt(connection: Connection, run_id: UUID) -> None:
    """Take an attempt off the count: it ended because the worker stopped, not because of the run."""
    await connection.execute(block("uncount_run_attempt"), {"run_id": run_id})


async def finish(
    connection: Connection,
    run_id: UUID,
    state: ImportRunState,
    counts: Counts,
    *,
    source_version: str | None = None,
    error_type: str | None = None,
    error: str | None = None,
) -> None:
    """Record the final state of the run in the caller's transaction; a second call changes nothing."""
    values = {"run_id": run_id, "state": state, **vars(counts), "source_version": source_version}
    await connection.execute(block("finish_run"), values | {"error_type": error_type, "error": error})


async def find(connection: Connection, run_id: UUID) -> ImportRun | None:
    """Return one run."""
    runs = await fetch_runs(connection, block("find_run"), {"run_id": run_id})
    return runs[0] if runs else None


async def history(connection: Connection, name: str | None = None, *, limit: int = 100) -> list[ImportRun]:
    """Return the newest runs of one import, or of all."""
    statement = block("list_runs") if name is None else block("list_runs_of")
    return await fetch_runs(connection, statement, {"name": name, "limit": limit})


async def newest(connection: Connection, names: Iterable[str]) -> dict[str, ImportRun]:
    """Return the newest run of each of these imports that has one."""
    return {run.name: run for run in await fetch_runs(connection, block("last_runs"), {"names": list(names)})}


async def last_version(connection: Connection, name: str, plan: dict[str, Any]) -> str | None:
    """Return the source's version when this import last succeeded with the same plan."""
    values = {"name": name, "plan": Jsonb(plan)}
    version: str | None = await fetch_value(connection, block("last_version"), values)
    return version


async def claim(connection: Connection) -> list[tuple[UUID, str, datetime | None]]:
    """Lock the rows of runs to publish, (id, name, due), without those that are being executed."""
    waiting = await fetch_all(connection, tuple_row, block("claim_runs"), {"limit": CLAIM_LIMIT})
    held = await held_locks(connection) if waiting else set()
    return [(run_id, name, due) for run_id, name, due in waiting if run_lock_key(run_id) not in held]


async def mark_published(connection: Connection, ids: Sequence[UUID], *, delay: float) -> None:
    """Record that these runs were published; unless finished or locked they are published again.

    That is after `delay` seconds, twice as many each time up to 64 times.
    """
    await connection.execute(block("mark_runs_published"), {"ids": list(ids), "delay": delay})


async def unmark_published(connection: Connection, ids: Sequence[UUID]) -> None:
    """Undo `mark_published`: these runs may not have reached the queue."""
    await connection.execute(block("unmark_runs_published"), {"ids": list(ids)})


async def purge(connection: Connection, *, days: int, step: int = 1_000) -> int:
    """Delete up to `step` runs that ended more than `days` days ago; return how many.

    The newest run of each import stays, and the newest that was done.
    """
    return (await connection.execute(block("purge_runs"), {"days": days, "step": step})).rowcount


async def fetch_runs(connection: Connection, statement: LiteralString, values: dict[str, Any]) -> list[ImportRun]:
    """Return the runs that a statement finds."""
    return await fetch_all(connection, class_row(ImportRun), statement, values)
