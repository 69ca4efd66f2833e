"""Final outcome of a run that did not succeed, recorded once in ledger and history."""

from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from pattern_storage.storage import ModelResult, import_runs, ledger
from pattern_storage.storage.errors import AlreadyDone
from pattern_storage.storage.import_runs import Counts
from pattern_storage.storage.translation import translate
from pattern_storage.vocabulary import ErrorType, ImportRunState

Pool = AsyncConnectionPool[AsyncConnection[Any]]

#: Final states other than `failed`, by error_type.
STATES = {ErrorType.IMPORT_OVERLAP: ImportRunState.OVERLAPPED, ErrorType.REVOKED: ImportRunState.CANCELLED}


async def record_failure(
    pool: Pool,
    run_id: UUID,
    name: str,
    request: bytes,
    failure: ModelResult,
    counts: Counts,
    version: str | None = None,
) -> ModelResult:
    """Record a run as failed, unless it has ended already; return its final result. Raises StorageError.

    `request` is a SHA-256 of the plan, and `version` that of the source, if it is known.
    """
    error_type = ErrorType(failure.metadata["error_type"])
    state = STATES.get(error_type, ImportRunState.FAILED)
    try:
        async with pool.connection() as connection, connection.transaction():
            await ledger.record_result(connection, run_id, request, failure, name)
            await import_runs.finish(
                connection, run_id, state, counts, source_version=version, error_type=error_type, error=failure.error
            )
    except Exception as raised:
        error = translate(raised)
        if not isinstance(error, AlreadyDone):
            raise error from raised
        return await recorded_result(pool, run_id) or failure
    return failure


async def recorded_result(pool: Pool, run_id: UUID) -> ModelResult | None:
    """Return the final result of a run, marked `replayed`; None if it has not ended.

    It comes from the ledger, or from the history if the ledger has been purged.
    """
    async with pool.connection() as connection:
        if recorded := await ledger.find(connection, run_id):
            result = recorded[1]
            if (error_type := result.metadata.get("error_type")) == ErrorType.REVOKED:
                # Cancelled before its row was inserted: the cancellation had no run to end.
                await import_runs.finish(
                    connection, run_id, ImportRunState.CANCELLED, Counts(), error_type=error_type, error=result.error
                )
            result.metadata["replayed"] = True
            return result
        run = await import_runs.find(connection, run_id)
        return run.result if run and run.finished_at else None
