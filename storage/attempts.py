"""Attempts: deliveries of a job after its first, counted in PostgreSQL, where no killed worker can lose them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from pattern_storage.storage import delivery
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.rows import Connection, fetch_value
from pattern_storage.storage.sql import block


async def try_lock(connection: Connection, correlation_id: UUID) -> bool:
    """Try to lock a job until the caller's transaction ends; return whether no other copy of it has the lock."""
    key = int.from_bytes(correlation_id.bytes[:8], signed=True)
    return bool(await fetch_value(connection, block("try_lock"), {"key": key}))


async def count_delivery(connection: Connection, correlation_id: UUID) -> int:
    """Count a redelivered or retried job as begun again; return how often that has happened.

    The first delivery is not counted, so a job that is done at once costs nothing here.
    """
    return int(await fetch_value(connection, block("count_delivery"), {"correlation_id": correlation_id}))


async def note_failure(connection: Connection, contract: ModelContractPatternStorage, result: ModelResult) -> None:
    """Keep why an attempt failed that is followed by another, for the job's timeline."""
    await connection.execute(block("note_failed_attempt"), failed_attempt(contract, result))


def failed_attempt(contract: ModelContractPatternStorage, result: ModelResult) -> dict[str, Any]:
    """Return what is kept of a job whose attempt failed now; `attempt` is an event of its timeline."""
    came = delivery.delivery_of(contract.correlation_id)
    attempt = {
        "at": datetime.now(UTC).isoformat(),
        "error_type": result.metadata.get("error_type"),
        "error": delivery.readable(result.error),
        "worker": came.worker,
        "sent_at": came.sent_at,
        "claimed_at": came.claimed_at,
        "duration_ms": result.metadata.get("duration_ms"),
    }
    return {
        "correlation_id": contract.correlation_id,
        "operation": contract.operation,
        "pattern_name": delivery.pattern_name(contract),
        "queue": came.queue,
        "attempt": Jsonb(attempt),
    }


async def clear(connection: Connection, correlation_id: UUID) -> None:
    """Remove attempts, outbox row and dead letter of a job that ended without a new ledger entry.

    Such are a query, and a job whose first result was returned again.
    """
    await connection.execute(block("clear_job"), {"correlation_id": correlation_id})


async def purge(connection: Connection, *, days: int) -> int:
    """Remove attempts of jobs that have ended, and those that began more than `days` days ago; return how many."""
    return (await connection.execute(block("purge_attempts"), {"days": days})).rowcount
