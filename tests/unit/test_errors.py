"""The tree of errors, and what becomes of exceptions. tests/integration/test_translation.py has the real ones."""

import pickle
import re
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from psycopg import errors as pg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from pattern_storage.storage import errors, setup_errors
from pattern_storage.storage.errors import (
    BatchInsertFailed,
    ConnectionLost,
    ContractInvalid,
    ForeignKeyViolation,
    InternalError,
    PatternNotFound,
    PermanentError,
    PoolExhausted,
    RightMissing,
    SchemaMismatch,
    ServerUnavailable,
    StatementTimeout,
    StorageError,
    TransactionConflict,
    TransientError,
    UniqueViolation,
    UnsupportedOperation,
)
from pattern_storage.storage.explanation import did_you_mean, printable
from pattern_storage.storage.translation import translate
from pattern_storage.tasks.errors import BrokerUnavailable, ImportBroken, JobTimeout
from pattern_storage.vocabulary import ErrorType

ID = UUID("01234567-89ab-cdef-0123-456789abcdef")


def descendants(kind: type[StorageError]) -> Iterator[type[StorageError]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def test_the_tree_is_the_one_drawn_at_the_top_of_the_file() -> None:
    drawn = re.findall(r"^ *[│ ]*[├└]── (\w+)\s+(\w+)?", errors.__doc__ or "", re.MULTILINE)
    kinds = {kind.__name__: kind for kind in descendants(StorageError)}
    assert {name for name, _ in drawn} == set(kinds)
    assert {kind.__module__ for kind in kinds.values()} == {errors.__name__, setup_errors.__name__}
    for name, error_type in drawn:
        kind = kinds[name]
        if error_type and name != "BatchInsertFailed":
            assert kind.error_type == error_type
        if name not in ("PermanentError", "TransientError"):
            assert issubclass(kind, PermanentError) != issubclass(kind, TransientError)


def test_every_leaf_explains_itself_and_has_a_type_for_programs() -> None:
    for kind in descendants(StorageError):
        assert kind.__doc__
        if kind not in (PermanentError, TransientError, BatchInsertFailed):
            assert re.fullmatch(r"[a-z]+(_[a-z]+)+", kind.error_type)
            assert kind.error_type != StorageError.error_type


def test_errors_carry_fields() -> None:
    assert PatternNotFound(ID).pattern_id == ID
    assert UniqueViolation("a", "b", "c").key == ("a", "b", "c")
    assert ForeignKeyViolation("x", ID).reference == ID
    assert UnsupportedOperation("x").operation == "x"
    assert ContractInvalid("x").fields == {}
    assert issubclass(ContractInvalid, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        ContractInvalid("x"),
        UnsupportedOperation("x"),
        UniqueViolation("a", "b", "c"),
        BatchInsertFailed(3, PatternNotFound(ID)),
        JobTimeout(ID, 1.5, "QUEUED", others=2),
        BrokerUnavailable("x"),
        ImportBroken(ErrorType.BAD_ROWS, "x", rows=1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_the_pipe_of_a_process_pool(error: Exception) -> None:
    restored = pickle.loads(pickle.dumps(error))
    assert type(restored) is type(error)
    assert (str(restored), repr(restored.args)) == (str(error), repr(error.args))
    assert vars(restored).keys() == vars(error).keys()
    assert {str(value) for value in vars(restored).values()} == {str(value) for value in vars(error).values()}


@pytest.mark.parametrize("cause", [ContractInvalid("x"), UniqueViolation("a", "b", "c"), ForeignKeyViolation("x")])
def test_a_batch_fails_with_the_type_of_its_row(cause: StorageError) -> None:
    error = BatchInsertFailed(3, cause)
    assert str(error) == f"Batch insert failed at pattern 3: {cause}"
    assert (error.error_type, error.fields) == (cause.error_type, {"failed_index": 3})
    assert (error.index, error.cause) == (3, cause)
    assert BatchInsertFailed.error_type == ContractInvalid.error_type  # the class itself stays as it was


@pytest.mark.parametrize(
    ("given", "expected", "text"),
    [
        (PoolTimeout("x"), PoolExhausted, "no database connection became free in time: x"),
        (TooManyRequests("x"), PoolExhausted, "no database connection became free in time: x"),
        (PoolClosed("x"), ServerUnavailable, "the connection pool is closed: x"),
        (KeyError("x"), InternalError, "unexpected KeyError: 'x'"),
        (ValueError("\ud800"), InternalError, "unexpected ValueError: \\ud800"),
        (psycopg.OperationalError("gone"), ConnectionLost, "the connection to PostgreSQL was lost: gone"),
        (psycopg.OperationalError(), ConnectionLost, "the connection to PostgreSQL was lost: OperationalError"),
        (pg.ConnectionFailure("x"), ConnectionLost, "the connection to PostgreSQL was lost: x"),
        (pg.TooManyConnections("x"), ServerUnavailable, "PostgreSQL is not available: x"),
        (pg.OutOfMemory("x"), ServerUnavailable, "PostgreSQL is not available: x"),
        (pg.DiskFull("x"), ServerUnavailable, "PostgreSQL is not available: x"),
        (pg.CannotConnectNow("x"), ServerUnavailable, "PostgreSQL is not available: x"),
        (pg.CrashShutdown("x"), ServerUnavailable, "PostgreSQL is not available: x"),
        (pg.IoError("x"), ServerUnavailable, "PostgreSQL is not available: x"),
        (pg.InvalidPassword("x"), ServerUnavailable, "PostgreSQL is not available: x"),
        (pg.InvalidCatalogName("x"), ServerUnavailable, "PostgreSQL is not available: x"),
        (pg.IdleInTransactionSessionTimeout("x"), ConnectionLost, "the connection to PostgreSQL was lost: x"),
        (pg.TransactionTimeout("x"), StatementTimeout, "PostgreSQL cancelled the statement: x"),
        (pg.SerializationFailure("x"), TransactionConflict, "PostgreSQL asks to try again: x"),
        (pg.TransactionRollback("x"), TransactionConflict, "PostgreSQL asks to try again: x"),
        (pg.ProgramLimitExceeded("x"), ContractInvalid, "PostgreSQL refused a value: x"),
        (
            pg.InsufficientPrivilege("x"),
            RightMissing,
            "the database role lacks a right; the owner of the tables gives it with"
            " 'pattern-storage migrate --grant-to ROLE': x",
        ),
        (
            pg.InvalidSchemaName("x"),
            SchemaMismatch,
            "the database schema does not fit, run 'pattern-storage migrate': x",
        ),
        (pg.DataCorrupted("x"), InternalError, "PostgreSQL error XX001: x"),
        (psycopg.ProgrammingError("x"), InternalError, "PostgreSQL error without a code: x"),
        (psycopg.DataError("x"), ContractInvalid, "x"),
        (pg.UniqueViolation("x"), UniqueViolation, "Pattern already exists: x (unknown type/unknown language)"),
        (
            pg.ForeignKeyViolation("x"),
            ForeignKeyViolation,
            "Invalid reference (foreign key violation): x",
        ),
    ],
)
def test_translation(given: Exception, expected: type[StorageError], text: str) -> None:
    error = translate(given)
    assert type(error) is expected
    assert str(error) == text


def test_our_own_errors_stay_as_they_are() -> None:
    error = PatternNotFound(ID)
    assert translate(error) is error


def test_did_you_mean() -> None:
    assert did_you_mean("langauge", ["language", "limit"]) == "did you mean 'language'?"
    assert did_you_mean("zzz", ["language", "limit"]) == "known are language, limit"


def test_anything_can_be_printed() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError

    assert printable("ä") == "ä"
    assert printable("\ud800") == "\\ud800"
    assert printable(10**5000) == "<int>"
    assert printable(Mute()) == "<Mute>"
    assert printable(None) == "None"
