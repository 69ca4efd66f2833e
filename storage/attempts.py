"""Deliveries after the first, and the jobs that had too many: dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Json

from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.operations.base import Connection, fetch_one
from pattern_storage.storage.sql import block


@dataclass(frozen=True)
class DeadLetter:
    """A job that ran out of attempts, kept until someone replays or discards it."""

    correlation_id: UUID
    contract: dict[str, Any]
    error_type: str
    error: str
    attempts: int
    first_at: datetime
    died_at: datetime


async def count_delivery(connection: Connection, correlation_id: UUID) -> int:
    """Note that a redelivered or retried job begins again; return how often that has happened.

    The first delivery is not counted, so a job that is done at once costs nothing here.
    """
    row = await fetch_one(connection, block("count_delivery"), {"correlation_id": correlation_id})
    return int(row[0]) if row else 0


async def forget(connection: Connection, correlation_id: UUID) -> None:
    """Clear what was kept of a job that ended without a new entry in the ledger: a query, or a replayed one."""
    await connection.execute(block("clear_job"), {"correlation_id": correlation_id})


async def clear_finished(connection: Connection) -> int:
    """Remove dead letters of jobs that the ledger has: they were given up while they were committing."""
    return (await connection.execute(block("clear_finished_letters"))).rowcount


async def bury(
    connection: Connection, contract: ModelContractPatternStorage, result: ModelResult, *, attempts: int
) -> bool:
    """Keep the job as a dead letter, with its last result; a later success removes it.

    Return whether it is one now: a job that is in the ledger has ended, however often its worker died of the answer.
    """
    values = {
        "correlation_id": contract.correlation_id,
        "contract": Json(contract.model_dump(mode="json")),
        "error_type": result.metadata["error_type"],
        "error": result.error,
        "attempts": attempts,
    }
    return (await connection.execute(block("bury_job"), values)).rowcount == 1


async def dead_letters(
    connection: Connection, *, ids: Sequence[UUID] | None = None, error_type: str | None = None, limit: int = 1_000
) -> list[DeadLetter]:
    """Return dead letters, the newest first: all, those with these ids, or those with this error_type."""
    values = {"ids": list(ids) if ids is not None else None, "error_type": error_type, "limit": limit}
    async with connection.cursor(row_factory=class_row(DeadLetter)) as cursor:
        await cursor.execute(block("list_dead_letters"), values)
        return await cursor.fetchall()


async def count_dead_letters(connection: Connection) -> int:
    """Return how many dead letters there are."""
    row = await fetch_one(connection, block("count_dead_letters"), {})
    return int(row[0]) if row else 0


async def discard(connection: Connection, ids: Sequence[UUID]) -> int:
    """Remove dead letters for good; return how many there were."""
    return (await connection.execute(block("discard_dead_letters"), {"ids": list(ids)})).rowcount
