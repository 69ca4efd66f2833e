"""The outbox: jobs written in an application's own transaction, so that they exist if and only if it commits.

A relay (tasks/relay.py) publishes them afterwards. A row goes when its effect commits (`ledger.record`), when the
job is cancelled or becomes a dead letter; until then it is published again and again, each time after twice the
delay, so no message that is lost anywhere loses the job. The ledger makes every message but the first harmless.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from pattern_storage.storage import numbers
from pattern_storage.storage.caller_connection import async_executor, executor
from pattern_storage.storage.errors import ContractInvalid, CorrelationConflict, PermanentError, StorageError
from pattern_storage.storage.fingerprint import fingerprint
from pattern_storage.storage.job_options import NO_OPTIONS, JobOptions
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations import check
from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block
from pattern_storage.storage.translation import schema_mismatch
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
    """Number of jobs in the outbox, of those never published, and seconds for which the oldest of these is due."""

    jobs: int
    unpublished: int
    age: float


async def add(connection: Any, *contracts: ModelContractPatternStorage, options: JobOptions = NO_OPTIONS) -> None:
    """Write jobs in the transaction of an asynchronous connection, in one statement.

    The same contract again changes nothing, whatever its options.

    Args:
        connection: what `caller_connection.async_executor` takes.
        contracts: the jobs, in the order in which they are to be published.
        options: those of all of them.

    Raises:
        ContractInvalid: if a value breaks a rule, or the contract is a query; then nothing was written.
        CorrelationConflict: if another request stands in the outbox under the same id; the transaction goes on.
        ConnectionUnsupported: for anything that is no such connection.
        SchemaMismatch: if the database is not migrated.
        Exception: what the caller's connection raises.
    """
    jobs = _jobs(contracts)
    execute = async_executor(connection)
    with _schema_explained():
        written = await execute(block("add_jobs"), _encode(jobs, options))
    if present := _present_ids(jobs, written):
        _compare(jobs, await execute(block("find_waiting_jobs"), present))


def add_sync(connection: Any, *contracts: ModelContractPatternStorage, options: JobOptions = NO_OPTIONS) -> None:
    """Write jobs in the transaction of a synchronous connection (`caller_connection.executor`); see `add`."""
    jobs = _jobs(contracts)
    execute = executor(connection)
    with _schema_explained():
        written = execute(block("add_jobs"), _encode(jobs, options))
    if present := _present_ids(jobs, written):
        _compare(jobs, execute(block("find_waiting_jobs"), present))


@contextmanager
def _schema_explained() -> Iterator[None]:
    """Raise SchemaMismatch for an error that any library has because our tables are not there."""
    try:
        yield
    except Exception as error:
        if mismatch := schema_mismatch(error):
            raise mismatch from error
        raise


def _jobs(contracts: Sequence[ModelContractPatternStorage]) -> dict[str, ModelContractPatternStorage]:
    """Return the contracts, every value checked, by their ids. Raises CorrelationConflict if two share one."""
    check_writes(contracts)
    jobs: dict[str, ModelContractPatternStorage] = {}
    for contract in contracts:
        first = jobs.setdefault(str(contract.correlation_id), contract)
        if first is not contract and fingerprint(first) != fingerprint(contract):
            raise CorrelationConflict(contract.correlation_id)
    return jobs


def _encode(jobs: Mapping[str, ModelContractPatternStorage], options: JobOptions) -> str:
    of_all = {"options": options.to_json(), "due": None if options.eta is None else options.eta.isoformat()}
    return json.dumps(
        [{"correlation_id": job, "contract": asked.model_dump(mode="json")} | of_all for job, asked in jobs.items()]
    )


def _present_ids(jobs: Mapping[str, ModelContractPatternStorage], written: Sequence[Sequence[Any]]) -> str | None:
    """Return the ids that were in the outbox before, as JSON; None if there are none."""
    present = jobs.keys() - {job for (job,) in written}
    return json.dumps(sorted(present)) if present else None


def check_writes(contracts: Sequence[ModelContractPatternStorage]) -> None:
    """Raise what `check_write` raises; of several contracts, the error names the one that it is about."""
    for index, contract in enumerate(contracts):
        try:
            check_write(contract)
        except PermanentError as error:
            if len(contracts) > 1:
                error.name_contract(index)
            raise


def check_write(contract: ModelContractPatternStorage) -> None:
    """Raise ContractInvalid or UnsupportedOperation for a contract that the outbox does not take."""
    check(contract)
    if contract.operation == OperationName.QUERY:
        raise ContractInvalid("A query changes nothing that the outbox could guarantee; submit it instead")


def _compare(jobs: Mapping[str, ModelContractPatternStorage], rows: Iterable[Sequence[Any]]) -> None:
    """Raise CorrelationConflict if a row asks for something else than the contract of its id; a row may be gone."""
    for job, text in rows:
        contract = jobs[job]
        try:
            same = fingerprint(read(contract.correlation_id, text)) == fingerprint(contract)
        except StorageError:
            same = False
        if not same:
            raise CorrelationConflict(contract.correlation_id)


def read(correlation_id: UUID, text: str) -> ModelContractPatternStorage:
    """Return the contract of a row, every value checked: an application may have written it with SQL.

    Raises ContractInvalid or UnsupportedOperation.
    """
    contract = ModelContractPatternStorage.model_validate({"correlation_id": correlation_id, **parse(text)})
    if contract.correlation_id != correlation_id:
        raise ContractInvalid(f"correlation_id is {contract.correlation_id}, but the row's is {correlation_id}")
    check_write(contract)
    return contract


def parse(text: str) -> dict[str, Any]:
    """Return a contract's JSON as JSON types. Raises ContractInvalid if it is no object, or cannot be read."""
    try:
        fields = numbers.loads(text)
    except ValueError as error:
        raise ContractInvalid(f"contract cannot be read: {error}") from None
    if not isinstance(fields, dict):
        raise ContractInvalid(f"contract should be a JSON object, got {type(fields).__name__}")
    return fields


async def claim(connection: Connection, *, limit: int = CLAIM_LIMIT, idle_seconds: float = 30.0) -> list[OutboxJob]:
    """Lock and return jobs that are due and not locked. Call it in a transaction.

    Workers that finish such a job wait for it, so PostgreSQL ends it after `idle_seconds` without a statement.
    """
    await connection.execute(block("limit_claim"), {"milliseconds": int(idle_seconds * 1000)})
    return await fetch_all(connection, class_row(OutboxJob), block("claim_jobs"), {"limit": limit, "size": CLAIM_SIZE})


async def mark_published(connection: Connection, ids: Sequence[UUID], *, delay: float) -> None:
    """Record that these jobs are on the queue: each is due again after `delay` seconds, doubled every time."""
    await connection.execute(block("mark_published"), {"ids": list(ids), "delay": delay})


async def remove(connection: Connection, ids: Sequence[UUID]) -> None:
    """Remove these jobs."""
    await connection.execute(block("remove_jobs"), {"ids": list(ids)})


async def next_publication(connection: Connection) -> float | None:
    """Return the seconds until the next job is due, 0 or less if one is due now, None if the outbox is empty.

    A relay asks this at every poll, in one round trip without a transaction. The job may be one that another relay
    holds, or one whose worker has finished it by the time it is claimed.
    """
    seconds: float | None = await fetch_value(connection, block("next_publication"))
    return seconds


async def measure(connection: Connection) -> OutboxSize:
    """Return how much is in the outbox."""
    [size] = await fetch_all(connection, class_row(OutboxSize), block("measure_outbox"))
    return size
