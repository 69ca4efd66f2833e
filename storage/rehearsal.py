"""Rehearsal for `doctor`: the statements of jobs, relay, beat and clients on each table, rolled back at the end."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from pattern_storage.storage import attempts, dead_letters, import_runs, import_schedules, ledger, outbox
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.operations import check
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.sql import block
from pattern_storage.storage.translation import translate
from pattern_storage.vocabulary import ErrorType, OperationName


async def rehearse(connection: Connection) -> None:
    """Execute the statements on this connection and roll them back. Raises StorageError for the first that fails."""
    try:
        async with connection.transaction(force_rollback=True):
            await _rehearse_jobs(connection)
            await _rehearse_outbox(connection)
            await _rehearse_imports(connection)
    except Exception as error:
        raise translate(error) from error


async def _rehearse_jobs(connection: Connection) -> None:
    insert = _insert()
    await attempts.count_delivery(connection, insert.correlation_id)
    data = await check(insert).apply(connection)
    pattern_id = UUID(data["pattern_id"])
    update = ModelContractPatternStorage(
        operation=OperationName.UPDATE, pattern_id=pattern_id, data={"category": "rehearsal"}
    )
    await check(update).apply(connection)
    query = ModelContractPatternStorage(operation=OperationName.QUERY, query_params={"id": str(pattern_id)})
    await check(query).apply(connection)
    await check(ModelContractPatternStorage(operation=OperationName.DELETE, pattern_id=pattern_id)).apply(connection)
    await ledger.record(connection, insert, ModelResult(success=True, data=data))
    failure = ModelResult.failure(
        "rehearsal", ErrorType.INTERNAL_ERROR, correlation_id=update.correlation_id, operation=OperationName.UPDATE
    )
    await dead_letters.add(connection, update, failure, attempts=1)
    await dead_letters.discard(connection, [update.correlation_id])


async def _rehearse_outbox(connection: Connection) -> None:
    await outbox.add(connection, _insert())
    await outbox.claim(connection, limit=1)
    contract = _insert().model_dump(mode="json")
    await connection.execute(block("enqueue_job"), {"contract": Jsonb(contract)})


async def _rehearse_imports(connection: Connection) -> None:
    name, now = f"rehearsal {uuid4()}", datetime.now(UTC)
    await import_runs.add(connection, uuid4(), name, now, {})
    await import_schedules.lock(connection, [name], now)


def _insert() -> ModelContractPatternStorage:
    data = {"pattern_type": "rehearsal", "language": "none", "template_code": ""}
    return ModelContractPatternStorage(
        operation=OperationName.INSERT, data={"pattern_name": f"rehearsal {uuid4()}", **data}
    )
