"""The outbox: jobs written in an application's own transaction, so that they exist if and only if it commits.

A relay (tasks/relay.py) publishes them afterwards. A row goes when its effect commits (`ledger.record`), when the
job is cancelled or becomes a dead letter; until then it is published again and again, each time after twice the
delay, so no message that is lost anywhere loses the job. The ledger makes every message but the first harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row, tuple_row
from psycopg.types.json import Json
from pydantic import ValidationError

from pattern_storage.storage import numbers
from pattern_storage.storage.errors import ContractInvalid, CorrelationConflict, StorageError
from pattern_storage.storage.explanation import explain
from pattern_storage.storage.job_options import NO_OPTIONS, JobOptions
from pattern_storage.storage.ledger import fingerprint
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations import check
from pattern_storage.storage.operations.base import Connection
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import OperationName

#: Jobs in one claim, and bytes of their contracts as PostgreSQL stores them, compressed; at least one job always fits.
CLAIM_LIMIT = 500
CLAIM_SIZE = 4_000_000


@dataclass(frozen=True)
class OutboxJob:
    """A row that is due, locked until the transaction ends. `finished`: the ledger has it, nothing is to be done."""

    correlation_id: UUID
    contract: str
    options: Any
    finished: bool


@dataclass(frozen=True)
class OutboxSize:
    """Jobs whose effect is not in the ledger yet, those never published, and seconds the oldest of these waits."""

    jobs: int
    unpublished: int
    age: float


async def add(connection: Connection, contract: ModelContractPatternStorage, options: JobOptions = NO_OPTIONS) -> None:
    """Write the job in the caller's transaction. The same contract again changes nothing, whatever its options.

    Raises:
        ContractInvalid: if a value breaks a rule, or the contract is a query; then nothing was written.
        CorrelationConflict: if another request stands in the outbox under the same id; the transaction goes on.
        psycopg.Error: what the caller's connection raises.
    """
    values = _values(contract, options)
    async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
        await cursor.execute(block("add_job"), values)
        if await cursor.fetchone() is None:
            await cursor.execute(block("find_waiting_job"), {"correlation_id": contract.correlation_id})
            _compare(contract, await cursor.fetchone())


def add_sync(
    connection: psycopg.Connection[Any], contract: ModelContractPatternStorage, options: JobOptions = NO_OPTIONS
) -> None:
    """Write the job in the transaction of a synchronous connection; see `add`."""
    values = _values(contract, options)
    with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
        cursor.execute(block("add_job"), values)
        if cursor.fetchone() is None:
            cursor.execute(block("find_waiting_job"), {"correlation_id": contract.correlation_id})
            _compare(contract, cursor.fetchone())


def _values(contract: ModelContractPatternStorage, options: JobOptions) -> dict[str, Any]:
    check_write(contract)
    stored = options.to_json()
    return {
        "correlation_id": contract.correlation_id,
        "contract": Json(contract.model_dump(mode="json")),
        "options": None if stored is None else Json(stored),
        "due": options.eta,
    }


def check_write(contract: ModelContractPatternStorage) -> None:
    """Raise ContractInvalid or UnsupportedOperation for what the outbox does not take."""
    check(contract)
    if contract.operation == OperationName.QUERY:
        raise ContractInvalid("A query changes nothing that the outbox could guarantee; submit it instead")


def _compare(contract: ModelContractPatternStorage, present: tuple[str] | None) -> None:
    """Raise CorrelationConflict if the row under the contract's id asks for something else; a row may be gone again."""
    if present is None:
        return
    try:
        same = fingerprint(read(contract.correlation_id, present[0])) == fingerprint(contract)
    except StorageError:
        same = False
    if not same:
        raise CorrelationConflict(contract.correlation_id)


def read(correlation_id: UUID, text: str) -> ModelContractPatternStorage:
    """Return the contract of a row, every value checked: an application may have written it with SQL.

    Raises ContractInvalid, UnsupportedOperation or BatchInsertFailed.
    """
    try:
        fields = numbers.loads(text)
    except ValueError as error:
        raise ContractInvalid(f"contract cannot be read: {error}") from None
    if not isinstance(fields, dict):
        raise ContractInvalid(f"contract should be a JSON object, got {type(fields).__name__}")
    try:
        contract = ModelContractPatternStorage.model_validate({"correlation_id": correlation_id, **fields})
    except ValidationError as error:
        raise ContractInvalid(explain(error)) from None
    if contract.correlation_id != correlation_id:
        raise ContractInvalid(f"correlation_id is {contract.correlation_id}, but the row's is {correlation_id}")
    check_write(contract)
    return contract


async def claim(connection: Connection, *, limit: int = CLAIM_LIMIT, idle_seconds: float = 30.0) -> list[OutboxJob]:
    """Lock and return jobs that are due, none that somebody else holds. Call it in a transaction.

    Workers that finish such a job wait for its end, so PostgreSQL ends it after `idle_seconds` without a statement.
    """
    await connection.execute(block("limit_claim"), {"milliseconds": int(idle_seconds * 1000)})
    async with connection.cursor(row_factory=class_row(OutboxJob)) as cursor:
        await cursor.execute(block("claim_jobs"), {"limit": limit, "size": CLAIM_SIZE})
        return await cursor.fetchall()


async def mark_published(connection: Connection, ids: Sequence[UUID], *, delay: float) -> None:
    """Note that these jobs are on the queue: each is due again after `delay` seconds, doubled every time."""
    await connection.execute(block("mark_published"), {"ids": list(ids), "delay": delay})


async def remove(connection: Connection, ids: Sequence[UUID]) -> None:
    """Forget these jobs."""
    await connection.execute(block("remove_jobs"), {"ids": list(ids)})


async def next_publication(connection: Connection) -> float | None:
    """Return the seconds until the next job is due, 0 or less if one is due now, None if the outbox is empty.

    A relay asks this at every poll, in one round trip without a transaction. The job may be one that another relay
    holds, or one whose worker has finished it by the time it is claimed.
    """
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(block("next_publication"))
        row: Any = await cursor.fetchone()
    return None if row[0] is None else float(row[0])


async def measure(connection: Connection) -> OutboxSize:
    """Return how much is in the outbox."""
    async with connection.cursor(row_factory=class_row(OutboxSize)) as cursor:
        await cursor.execute(block("measure_outbox"))
        size = await cursor.fetchone()
    assert size is not None  # noqa: S101  # an aggregate has one row
    return size
