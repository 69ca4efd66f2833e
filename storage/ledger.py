"""The ledger: every write happens exactly once per correlation id, however often its message comes.

The effect and its ledger row are one transaction, and the row's primary key is the correlation id. A second execution,
of a redelivery or by another worker at the same moment, fails on that key: its effect rolls back, and it returns the
first one's result. The row is written after the effect, so the usual case costs one statement more than the effect
alone, and only the rare case reads the ledger.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.rows import scalar_row, tuple_row
from psycopg.types.json import Json

from pattern_storage.storage import delivery, numbers
from pattern_storage.storage.errors import CorrelationConflict, TransactionConflict
from pattern_storage.storage.fingerprint import fingerprints, name_request
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.rows import Connection, fetch_all, fetch_one
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import ErrorType, JobState

#: The error of a cancelled job.
REVOKED = "The job was cancelled before it was done"


async def record(connection: Connection, contract: ModelContractPatternStorage, result: ModelResult) -> None:
    """Record the job as finished, in the caller's transaction. Raises psycopg's UniqueViolation if it is there.

    Adds the `request` to the result's metadata, so that a caller who has reused an id can tell.
    """
    request, name = name_request(result, contract), delivery.pattern_name(contract, result)
    # An operator sends only failed jobs again.
    kept = None if result.success else _kept(contract)
    await _record(connection, contract.correlation_id, request, result, name, kept)


async def record_result(
    connection: Connection, correlation_id: UUID, request: bytes, result: ModelResult, name: str
) -> None:
    """Record a job that has no contract, such as a run of an import; `request` is the SHA-256 of its request."""
    result.metadata["request"] = request.hex()
    await _record(connection, correlation_id, request, result, delivery.readable(name))


async def _record(
    connection: Connection,
    correlation_id: UUID,
    request: bytes,
    result: ModelResult,
    name: str | None,
    contract: Json | None = None,
) -> None:
    came = delivery.delivery_of(correlation_id)
    values = {
        "correlation_id": correlation_id,
        "fingerprint": request,
        "result": Json(result.to_dict()),
        "state": _state_of(result),
        "operation": result.metadata.get("operation"),
        "pattern_name": name,
        "error_type": result.metadata.get("error_type"),
        "queue": came.queue,
        "worker": came.worker,
        "sent_at": came.sent_at,
        "claimed_at": came.claimed_at,
        "duration_ms": result.metadata.get("duration_ms"),
        "contract": contract,
    }
    await connection.execute(block("record_job"), values)


def _kept(contract: ModelContractPatternStorage) -> Json | None:
    """Return a contract as the ledger keeps it; None if it has a number that JSON does not have."""
    fields = contract.model_dump(mode="json")
    return Json(fields) if numbers.are_json(fields) else None


def _state_of(result: ModelResult) -> JobState:
    if result.success:
        return JobState.SUCCESS
    return JobState.REVOKED if result.metadata.get("error_type") == ErrorType.REVOKED else JobState.FAILURE


async def find(connection: Connection, correlation_id: UUID) -> tuple[bytes | None, ModelResult] | None:
    """Return the fingerprint and the result of a finished job, None if the ledger does not know it."""
    row = await fetch_one(connection, block("find_job"), {"correlation_id": correlation_id})
    return None if row is None else (row[0], ModelResult.model_validate(row[1]))


async def replay(connection: Connection, contract: ModelContractPatternStorage) -> ModelResult | None:
    """Return the first result of a job, marked `replayed`; None if the ledger does not know it.

    Raises CorrelationConflict if the id belongs to another request. A cancelled job has none: it answers any.
    """
    found = await find(connection, contract.correlation_id)
    return None if found is None else _replayed(contract, *found)


async def replay_recorded(connection: Connection, contract: ModelContractPatternStorage) -> ModelResult:
    """Return the first result of a job that was in the ledger a moment ago. Raises TransactionConflict if it is not."""
    first = await replay(connection, contract)
    if first is None:
        raise TransactionConflict("the ledger lost this job while it was looked at")
    return first


async def open_query(connection: Connection, contract: ModelContractPatternStorage) -> ModelResult | None:
    """Begin a query, in its transaction: return the result of one that was cancelled, None if it may go on.

    Raises CorrelationConflict if the id is that of a write.
    """
    row = await fetch_one(connection, block("open_query"), {"correlation_id": contract.correlation_id})
    return None if row is None else _replayed(contract, row[0], ModelResult.model_validate(row[1]))


def _replayed(contract: ModelContractPatternStorage, first: bytes | None, result: ModelResult) -> ModelResult:
    requests = fingerprints(contract)
    if first is not None and first not in requests:
        raise CorrelationConflict(contract.correlation_id, requests[-1].hex())
    result.metadata["replayed"] = True
    return result


async def record_failure(
    connection: Connection, contract: ModelContractPatternStorage, failure: ModelResult
) -> ModelResult:
    """Record a job as failed for good, unless it is finished: return its first result if it has one, else `failure`.

    This waits for the same job where that is committing at this moment. Raises CorrelationConflict as `replay` does.
    """
    if first := await replay(connection, contract):
        return first
    try:
        await record(connection, contract, failure)
    except UniqueViolation:  # another delivery was recorded at this moment
        return await replay_recorded(connection, contract)
    return failure


def _revoked(correlation_id: UUID) -> ModelResult:
    return ModelResult.failure(
        REVOKED, ErrorType.REVOKED, correlation_id=correlation_id, operation=None, duration_ms=0.0
    )


async def cancel_all(connection: Connection, jobs: Mapping[UUID, ModelContractPatternStorage | None]) -> set[UUID]:
    """Cancel many jobs as `cancel` does one; return those that this has cancelled, the others had ended."""
    values = {
        "ids": list(jobs),
        "results": [Json(_revoked(job).to_dict()) for job in jobs],
        "operations": [contract and contract.operation for contract in jobs.values()],
        "pattern_names": [contract and delivery.pattern_name(contract) for contract in jobs.values()],
        "queues": [delivery.delivery_of(job).queue for job in jobs],
        "sent_at": [delivery.delivery_of(job).sent_at for job in jobs],
        "contracts": [contract and _kept(contract) for contract in jobs.values()],
        "error": REVOKED,
    }
    return set(await fetch_all(connection, scalar_row, block("cancel_jobs"), values))


async def cancel(
    connection: Connection, correlation_id: UUID, contract: ModelContractPatternStorage | None = None
) -> ModelResult:
    """Make sure that a job never commits, unless it has finished: return its result either way.

    This waits for a job that is committing at this moment. A cancelled job's `error_type` is "revoked". Where the
    contract is known, it is kept: the job can be sent again under another id.
    """
    if await cancel_all(connection, {correlation_id: contract}):
        return _revoked(correlation_id)
    found = await find(connection, correlation_id)
    return _revoked(correlation_id) if found is None else found[1]


async def blocked(connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the ids that are cancelled without a job: PostgreSQL knew none, and no message was given."""
    return set(await fetch_all(connection, scalar_row, block("blocked_ids"), {"ids": list(ids)}))


async def cancellable(connection: Connection, ids: Sequence[UUID]) -> tuple[set[UUID], set[UUID]]:
    """Return those of the ids that `cancel_all` would find ended, and those of which PostgreSQL knows no job.

    Only reads: a job may end between this and its cancellation.
    """
    known = await states(connection, ids)
    # A dead letter has failed, and can be cancelled all the same.
    ended = {
        job
        for job, (state, result) in known.items()
        if state in (JobState.SUCCESS, JobState.FAILURE) and not (result and result.metadata.get("dead_letter"))
    }
    open_ = set(await fetch_all(connection, scalar_row, block("known_ids"), {"ids": list(ids)}))
    return ended, known.keys() - ended - open_


async def states(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, tuple[JobState, ModelResult | None]]:
    """Return what PostgreSQL knows of jobs: UNKNOWN, QUEUED (in the outbox), SUCCESS, FAILURE or REVOKED.

    Of a job that was sent directly it knows nothing until the job has ended.
    """
    rows = await fetch_all(connection, tuple_row, block("job_states"), {"ids": list(ids)})
    return {job: _state(job, *known) for job, *known in rows}


async def state(connection: Connection, correlation_id: UUID) -> tuple[JobState, ModelResult | None]:
    """Return what PostgreSQL knows of one job, as `states` does."""
    return (await states(connection, [correlation_id]))[correlation_id]


def _state(job: UUID, finished: Any, letter: Any, waiting: bool | None) -> tuple[JobState, ModelResult | None]:
    if finished is not None:
        result = ModelResult.model_validate(finished)
        return _state_of(result), result
    if letter is not None:
        return JobState.FAILURE, ModelResult.failure(correlation_id=job, dead_letter=True, **letter)
    return (JobState.QUEUED if waiting else JobState.UNKNOWN), None


async def purge(connection: Connection, *, days: int, step: int = 1_000) -> int:
    """Remove up to `step` jobs that finished more than `days` days ago; return how many."""
    return (await connection.execute(block("purge_ledger"), {"days": days, "step": step})).rowcount


async def describe(connection: Connection, *, step: int = 1_000) -> int:
    """Fill the columns that lists need of up to `step` rows that an older release has written; return how many."""
    return (await connection.execute(block("describe_ledger"), {"step": step})).rowcount
