"""Translation of psycopg's exceptions into ours, in this module alone.

SQLSTATE classes are those of https://www.postgresql.org/docs/18/errcodes-appendix.html
"""

import re
from uuid import UUID

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from pattern_storage.storage.errors import (
    AlreadyDone,
    ConnectionLost,
    ContractInvalid,
    DatabaseReadOnly,
    ForeignKeyViolation,
    InternalError,
    PoolExhausted,
    RightMissing,
    SchemaMismatch,
    ServerUnavailable,
    StatementTimeout,
    StorageError,
    TransactionConflict,
    UniqueViolation,
)
from pattern_storage.storage.explanation import printable

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def translate(error: Exception) -> StorageError:
    """Turn any exception of an operation into one of our tree.

    Our own errors are returned unchanged; an unexpected exception becomes `InternalError`.
    """
    if isinstance(error, StorageError):
        return error
    if isinstance(error, PoolTimeout | TooManyRequests):
        return PoolExhausted(f"no database connection became free in time: {error}")
    if isinstance(error, PoolClosed):
        return ServerUnavailable(f"the connection pool is closed: {error}")
    if isinstance(error, psycopg.Error):
        return _translate_psycopg(error)
    return InternalError(f"unexpected {type(error).__name__}: {printable(error)}")


def schema_mismatch(error: Exception) -> SchemaMismatch | None:
    """Return what an error of a caller's library says of our tables: None if it is about anything else.

    SQLAlchemy and Django wrap the error of their driver, which is the cause of theirs.
    """
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    # psycopg2 calls it pgcode.
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state not in ("42P01", "42703"):  # no such table, no such column
        return None
    # psycopg goes on with the statement.
    what = str(cause).partition("\n")[0]
    return SchemaMismatch(f"the database schema does not fit, run 'pattern-storage migrate': {what}")


def _translate_psycopg(error: psycopg.Error) -> StorageError:
    message = error.diag.message_primary or str(error).strip() or type(error).__name__
    state = error.sqlstate or ""
    match error:
        case pg.UniqueViolation():
            return _unique_violation(error)
        case pg.ForeignKeyViolation():
            return _foreign_key_violation(error, message)
        case pg.NotNullViolation() | pg.CheckViolation():
            field = error.diag.column_name or error.diag.constraint_name or "a value"
            return ContractInvalid(f"{field}: {message}")
        case pg.QueryCanceled() | pg.TransactionTimeout():
            return StatementTimeout(f"PostgreSQL cancelled the statement: {message}")
        case pg.IdleInTransactionSessionTimeout():
            return ConnectionLost(f"the connection to PostgreSQL was lost: {message}")
        case pg.LockNotAvailable():
            return TransactionConflict(f"PostgreSQL asks to try again: {message}")
        case pg.ReadOnlySqlTransaction():
            return DatabaseReadOnly(f"the database is read-only: {message}")
        case pg.InsufficientPrivilege():
            return RightMissing(
                "the database role lacks a right; the owner of the tables gives it with"
                f" 'pattern-storage migrate --grant-to ROLE': {message}"
            )
        case psycopg.DataError() if not state:
            # psycopg itself refused a value that PostgreSQL cannot hold.
            return ContractInvalid(message)
        case psycopg.OperationalError() if not state:
            # libpq reports a broken or refused connection without any SQLSTATE.
            return ConnectionLost(f"the connection to PostgreSQL was lost: {message}")
    match state[:2]:
        case "40":
            return TransactionConflict(f"PostgreSQL asks to try again: {message}")
        case "08":
            return ConnectionLost(f"the connection to PostgreSQL was lost: {message}")
        case "53" | "57" | "58" | "28" | "3D":
            return ServerUnavailable(f"PostgreSQL is not available: {message}")
        case "22" | "54":
            return ContractInvalid(f"PostgreSQL refused a value: {message}")
        case "42" | "3F":
            return SchemaMismatch(f"the database schema does not fit, run 'pattern-storage migrate': {message}")
    return InternalError(f"PostgreSQL error {state or 'without a code'}: {message}")


def _unique_violation(error: psycopg.Error) -> StorageError:
    detail = error.diag.message_detail or ""
    if error.diag.constraint_name == "job_ledger_pkey":
        return AlreadyDone("the ledger has this job already")
    values = re.search(r"=\((?P<name>.*), (?P<type>[^,]*), (?P<language>[^,]*)\)", detail, re.DOTALL)
    if values:
        return UniqueViolation(values["name"], values["type"], values["language"])
    return UniqueViolation(detail or str(error), "unknown type", "unknown language")


def _foreign_key_violation(error: psycopg.Error, message: str) -> StorageError:
    """The detail's wording depends on the server's language; the column and the id do not."""
    detail = error.diag.message_detail or ""
    match = _UUID.search(detail)
    if match is None:  # PostgreSQL hides the values from a role that may not read them
        return ForeignKeyViolation(message)
    reference = UUID(match.group())
    if "(id)=(" in detail:
        return ForeignKeyViolation(f"pattern {reference} is the parent of other patterns", reference)
    return ForeignKeyViolation(f"parent_pattern_id {reference} does not exist", reference)
