"""Statements of a group: the effects of its jobs in the order of the queue, with the ledger rows of these jobs."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from psycopg.sql import SQL, Identifier, Literal
from pydantic_core import to_json

from pattern_storage.storage import delivery
from pattern_storage.storage.errors import PatternNotFound, StorageError, VersionConflict
from pattern_storage.storage.fingerprint import fingerprints
from pattern_storage.storage.ids import new_ids
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import identifiers
from pattern_storage.storage.operations.delete import Delete
from pattern_storage.storage.operations.insert import Insert
from pattern_storage.storage.operations.update import Update
from pattern_storage.storage.pattern import WRITABLE, Pattern
from pattern_storage.storage.pipeline import Statement
from pattern_storage.storage.sql import block

#: Values of the columns that an insert leaves out, except NULL.
DEFAULTS = {
    name: field.default
    for name, field in Pattern.model_fields.items()
    if not field.is_required() and field.default is not None
}

#: SQL of a job's contract, where it is sent as a whole.
_CONTRACT = block("contract_of_job")


class Job(NamedTuple):
    """One job of a group."""

    contract: ModelContractPatternStorage
    #: Its checked operation, or why it is refused.
    operation: Insert | Update | Delete | StorageError


def statements(jobs: Iterable[Job]) -> Iterator[Statement]:
    """Yield the effects in this order, with their ledger rows; neighbouring inserts are one statement."""
    for kind, run in groupby(jobs, key=lambda job: type(job.operation)):
        if kind is Insert:
            yield _insert(list(run))
        elif kind is Update:
            yield from map(_update, run)
        elif kind is Delete:
            yield from map(_delete, run)
        else:
            yield _refuse(run)


def _insert(jobs: list[Any]) -> Statement:
    new = list(zip(new_ids(len(jobs)), jobs, strict=True))
    rows = [
        _ledger_row(
            job.contract,
            job.operation.not_written,
            _labels(job.contract),
            pattern_id,
            job.operation.pattern.pattern_name,
        )
        for pattern_id, job in new
    ]
    # In key order: two groups that share keys wait for each other, where they would deadlock otherwise.
    new.sort(key=lambda row: row[1].operation.pattern.key)
    ids, patterns = ",".join(pattern_id for pattern_id, _ in new), [_columns(job) for _, job in new]
    statement = _record(block("insert_patterns"), *WRITABLE, contract=block("contract_of_insert"))
    return statement, [_json(rows), _json(patterns), f"{{{ids}}}"]


def _labels(contract: ModelContractPatternStorage) -> dict[str, Any]:
    """Return an insert's contract without its data: PostgreSQL has that as the columns, and can put it back."""
    return {
        "operation": contract.operation,
        "correlation_id": contract.correlation_id,
        "name": contract.name,
        "version": contract.version,
        "description": contract.description,
    }


def _columns(job: Any) -> dict[str, Any]:
    """Return the columns of an insert as given, except ids: PostgreSQL reads all other values as `Pattern` does."""
    given: dict[str, Any] = job.contract.data
    parent = job.operation.pattern.parent_pattern_id
    return given if parent is None else given | {"parent_pattern_id": parent}


def _update(job: Any) -> Statement:
    changes, pattern_id = job.operation.changes, job.operation.pattern_id
    values = [_ledger_rows(job), _json(changes), str(pattern_id), _expected(job), _json(list(changes))]
    return _record(block("update_pattern_in_group"), *changes), values


def _delete(job: Any) -> Statement:
    return _record(block("delete_pattern_in_group")), [_ledger_rows(job), str(job.operation.pattern_id), _expected(job)]


def _refuse(jobs: Iterable[Any]) -> Statement:
    rows = [_ledger_row(job.contract, job.operation, job.contract) for job in jobs]
    return _record(block("no_pattern")), [_json(rows)]


def _ledger_rows(job: Any) -> str:
    """Return the job of an update or a delete as `record_effect` takes it."""
    pattern_id, expect = job.operation.pattern_id, job.operation.expect
    row = _ledger_row(job.contract, PatternNotFound(pattern_id), job.contract, pattern_id)
    # Its "?" becomes the time that PostgreSQL finds.
    return _json([row if expect is None else row | {"conflict": str(VersionConflict(pattern_id, expect, "?"))}])


def _expected(job: Any) -> str:
    return "" if job.operation.expect is None else job.operation.expect.isoformat()


@lru_cache(100)
def _record(effect: LiteralString, *columns: str, contract: LiteralString = _CONTRACT) -> str:
    """Return the SQL of an effect with its ledger rows. The names of columns are from our own list."""
    assignments = SQL(", ").join(SQL("{0} = new.{0}").format(Identifier(column)) for column in columns)
    made = SQL(effect).format(columns=identifiers(columns), assignments=assignments, defaults=Literal(_json(DEFAULTS)))
    return SQL(block("record_effect")).format(effect=made, contract=SQL(contract).format()).as_string()


def _ledger_row(
    contract: ModelContractPatternStorage,
    error: StorageError,
    kept_contract: object,
    pattern_id: UUID | str | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Return a job as `record_effect` takes it: with its pattern, and the error and contract if that is not written."""
    canonical, *older = (digest.hex() for digest in fingerprints(contract, jsonable=True))
    came = delivery.delivery_of(contract.correlation_id)
    return {
        "correlation_id": contract.correlation_id,
        "operation": contract.operation,
        "fingerprint": canonical,
        "older": older[0] if older else None,
        "pattern_id": pattern_id,
        "pattern_name": name or delivery.pattern_name(contract),
        "error": str(error),
        "error_type": error.error_type,
        "contract": kept_contract,
        "queue": came.queue,
        "worker": came.worker,
        "sent_at": came.sent_at,
        "claimed_at": came.claimed_at,
    }


def _json(value: Any) -> str:
    return to_json(value).decode()
