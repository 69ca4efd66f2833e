"""Attempts: deliveries of a job after its first, counted in PostgreSQL, where no killed worker can lose them."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pattern_storage.storage import delivery
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.rows import Connection, fetch_value
from pattern_storage.storage.sql import block


class CountedAttempt(AbstractAsyncContextManager[Connection]):
    """A counted attempt and the job's transaction, which is open already and holds the lock on the job.

    As a context manager it yields the connection and ends the transaction; ending it again does nothing.
    """

    def __init__(self, begun_again: int, connection: Connection, opened: AsyncExitStack) -> None:
        #: How often the job has begun after its first delivery, this attempt included.
        self.begun_again = begun_again
        self._connection = connection
        self._opened = opened

    async def __aenter__(self) -> Connection:
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._opened.__aexit__(kind, error, trace)

    async def end(self) -> None:
        """End the transaction and give the connection back, if that is still to be done."""
        await self._opened.aclose()


async def begin_again(pool: AsyncConnectionPool[AsyncConnection[Any]], correlation_id: UUID) -> CountedAttempt | None:
    """Lock a job and count the attempt; return it with the transaction in which the job is to be executed.

    None if another copy of the job has the lock: that one is the attempt.

    One connection does both: to wait for a second one while holding the first is to wait for ever in a pool of one,
    and for each other in any pool.
    """
    key = {"key": int.from_bytes(correlation_id.bytes[:8], signed=True)}
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(pool.connection())
        await stack.enter_async_context(connection.transaction())
        if not await fetch_value(connection, block("try_lock"), key):
            return None
        begun_again = await count_delivery(connection, correlation_id)
        try:
            await connection.execute(block("keep_lock"), key)
            # The count has to stay when the job dies. The next transaction begins in the same command: between two
            # commands PgBouncer would give the session, with its lock, to another client.
            await connection.execute("COMMIT AND CHAIN", prepare=False)
            await connection.execute(block("hold_kept_lock"), key)
        except BaseException:
            # The lock of a session ends with it, and with nothing else.
            await connection.close()
            raise
        return CountedAttempt(begun_again, connection, stack.pop_all())


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
