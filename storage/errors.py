"""Errors of storage operations, as one tree. All error types of a job are in `pattern_storage.vocabulary.ErrorType`.

    StorageError                        error_type
    ├── PermanentError                  (the same request would fail again)
    │   ├── ContractInvalid             validation_error, also a ValueError
    │   │   └── BatchInsertFailed       that of the row that failed
    │   ├── FilterInvalid               validation_error, also a ValueError
    │   ├── PatternNotFound             validation_error
    │   ├── VersionConflict             version_conflict
    │   ├── UniqueViolation             unique_violation
    │   ├── ForeignKeyViolation         foreign_key_violation
    │   ├── UnsupportedOperation        unsupported_operation
    │   ├── CorrelationConflict         correlation_conflict
    │   ├── RunOpen                     import_overlap
    │   ├── RoleUnknown                 unknown_role
    │   ├── RevisionUnknown             unknown_revision
    │   ├── ConninfoInvalid             validation_error
    │   ├── DatabaseUnsuitable          database_unsuitable
    │   ├── ConnectionUnsupported       validation_error, also a TypeError
    │   └── AlreadyDone                 (internal: answered with the first result)
    └── TransientError                  (the same request may succeed later)
        ├── ConnectionLost              connection_lost
        ├── ServerUnavailable           server_unavailable
        │   └── DatabaseReadOnly        server_unavailable
        ├── PoolExhausted               pool_timeout
        ├── TransactionConflict         transaction_conflict
        ├── StatementTimeout            statement_timeout
        ├── SchemaMismatch              schema_mismatch
        │   ├── RightMissing            schema_mismatch
        │   └── SchemaNewer             schema_mismatch
        └── InternalError               internal_error

`str(error)` is the plain-English sentence that users read; `error_type` and `fields` are for programs.
Errors of connections, roles and the schema are in `storage/setup_errors.py`, a branch of this tree.
psycopg's exceptions become these in `storage/translation.py` and nowhere else.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pattern_storage.storage.picklable_error import PicklableError
from pattern_storage.vocabulary import ErrorType


class StorageError(PicklableError):
    """A storage operation did not happen."""

    error_type: ErrorType = ErrorType.STORAGE_ERROR

    @property
    def fields(self) -> dict[str, Any]:
        """Entries of `ModelResult.metadata` for this error besides its type."""
        return {}


class PermanentError(StorageError):
    """The same request would fail again, however often it is tried."""

    #: Index, counted from 0, of the contract among those that one call submits; None for a call that submits one.
    contract_index: int | None = None

    def name_contract(self, index: int) -> None:
        """Begin the sentence with the contract that it is about."""
        self.contract_index = index
        self.args = (f"contract {index}: {self}",)


class TransientError(StorageError):
    """The same request may succeed later, unchanged."""

    @property
    def fields(self) -> dict[str, Any]:
        """`retryable`: the job is not decided yet."""
        return {"retryable": True}


class ContractInvalid(PermanentError, ValueError):
    """A value, a name or a combination in the contract breaks a rule; the text names the field."""

    error_type = ErrorType.VALIDATION_ERROR


class FilterInvalid(PermanentError, ValueError):
    """A filter or a cursor of a list breaks a rule; the text names the field."""

    error_type = ErrorType.VALIDATION_ERROR


class PatternNotFound(PermanentError):
    """No pattern has the id that an update or delete names."""

    error_type = ErrorType.VALIDATION_ERROR

    def __init__(self, pattern_id: UUID) -> None:
        self.pattern_id = pattern_id
        super().__init__(f"Pattern not found: {pattern_id}")


class VersionConflict(PermanentError):
    """The pattern was updated at another time than the update or delete expects; nothing was changed."""

    error_type = ErrorType.VERSION_CONFLICT

    def __init__(self, pattern_id: UUID, expected: datetime, present: datetime | str) -> None:
        self.pattern_id, self.expected = pattern_id, expected
        self.present = present if isinstance(present, str) else _iso(present)
        super().__init__(
            f"Pattern {pattern_id} was last updated at {self.present}, not at {_iso(expected)} as expected;"
            " read it again"
        )

    @property
    def fields(self) -> dict[str, Any]:
        """`present_updated_at`: when the pattern was last updated, as `expect` takes it."""
        return {"present_updated_at": self.present}


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


class UniqueViolation(PermanentError):
    """Another pattern has the same (pattern_name, pattern_type, language)."""

    error_type = ErrorType.UNIQUE_VIOLATION

    def __init__(self, pattern_name: str, pattern_type: str, language: str) -> None:
        self.key = (pattern_name, pattern_type, language)
        super().__init__(f"Pattern already exists: {pattern_name} ({pattern_type}/{language})")


class ForeignKeyViolation(PermanentError):
    """A parent does not exist, or a pattern that is one was to be deleted."""

    error_type = ErrorType.FOREIGN_KEY_VIOLATION

    def __init__(self, reason: str, reference: UUID | None = None) -> None:
        self.reference = reference
        super().__init__(f"Invalid reference (foreign key violation): {reason}")


class UnsupportedOperation(PermanentError):
    """The contract names an operation that does not exist."""

    error_type = ErrorType.UNSUPPORTED_OPERATION

    def __init__(self, operation: str) -> None:
        self.operation = operation
        super().__init__(f"Unsupported operation: {operation}")


class CorrelationConflict(PermanentError):
    """The correlation id belongs to another request that is finished already; nothing was changed."""

    error_type = ErrorType.CORRELATION_CONFLICT

    def __init__(self, correlation_id: UUID, request: str | None = None) -> None:
        self.correlation_id = correlation_id
        self.request = request
        super().__init__(f"Correlation id {correlation_id} belongs to another request; use a new one")

    @property
    def fields(self) -> dict[str, Any]:
        """`request`: the fingerprint of the request that came second, where it is known."""
        return {"request": self.request} if self.request else {}


class RunOpen(PermanentError):
    """A run of the import has not ended, and there is one at a time."""

    error_type = ErrorType.IMPORT_OVERLAP

    def __init__(self, name: str, run_id: UUID) -> None:
        self.run_id = run_id
        super().__init__(f"run {run_id} of {name!r} has not ended yet")


class AlreadyDone(PermanentError):
    """The ledger has this job already; its second execution has rolled back."""

    error_type = ErrorType.ALREADY_DONE


class BatchInsertFailed(ContractInvalid):
    """One row of a batch failed, so none was written."""

    def __init__(self, index: int, cause: StorageError) -> None:
        self.index = index
        self.cause = cause
        self.error_type = cause.error_type
        super().__init__(f"Batch insert failed at pattern {index}: {cause}")

    @property
    def fields(self) -> dict[str, Any]:
        """`failed_index`, counted from 0 in input order."""
        return {"failed_index": self.index}


class StatementTimeout(TransientError):
    """PostgreSQL cancelled a statement that ran past its time limit."""

    error_type = ErrorType.STATEMENT_TIMEOUT


class SchemaMismatch(TransientError):
    """The database lacks a table, column or right that this version needs."""

    error_type = ErrorType.SCHEMA_MISMATCH


class RightMissing(SchemaMismatch):
    """The database role may not do what this version needs."""


class InternalError(TransientError):
    """An unexpected error; the log has the traceback under the correlation id."""

    error_type = ErrorType.INTERNAL_ERROR


class ConnectionLost(TransientError):
    """The connection broke; whether the transaction committed is not known."""

    error_type = ErrorType.CONNECTION_LOST


class ServerUnavailable(TransientError):
    """PostgreSQL is starting, stopping, read-only or out of a resource."""

    error_type = ErrorType.SERVER_UNAVAILABLE


class DatabaseReadOnly(ServerUnavailable):
    """The server is a standby, or the session may only read."""


class PoolExhausted(TransientError):
    """No connection became free within the pool's timeout."""

    error_type = ErrorType.POOL_TIMEOUT


class TransactionConflict(TransientError):
    """Serialization failure, deadlock or lock timeout: PostgreSQL asks to try again."""

    error_type = ErrorType.TRANSACTION_CONFLICT
