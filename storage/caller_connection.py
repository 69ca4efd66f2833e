"""An application's own connection, of whatever library, as a function that executes one statement in its transaction.

Libraries are recognized by the names of their classes, so none of them is imported, and none is a dependency.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pattern_storage.storage.setup_errors import ConnectionUnsupported

#: A connection of a library that may not be installed, so there is no type to name.
CallerConnection: TypeAlias = Any
AsyncCallerConnection: TypeAlias = Any

#: Executes a named statement's text with the value of its one placeholder, `%(jobs)s`, and returns the rows.
Execute = Callable[[LiteralString, str], Sequence[Sequence[Any]]]
AsyncExecute = Callable[[LiteralString, str], Awaitable[Sequence[Sequence[Any]]]]

#: Classes that are recognized among the bases of the connection's class: top-level module and name.
SQLALCHEMY = {("sqlalchemy", "Connection"), ("sqlalchemy", "Session"), ("sqlalchemy", "scoped_session")}
SQLALCHEMY_ASYNC = {
    ("sqlalchemy", "AsyncConnection"),
    ("sqlalchemy", "AsyncSession"),
    ("sqlalchemy", "async_scoped_session"),
}
DJANGO = {("django", "BaseDatabaseWrapper"), ("django", "ConnectionProxy")}
ASYNCPG = {("asyncpg", "Connection"), ("asyncpg", "PoolConnectionProxy")}

ACCEPTED = (
    "a psycopg connection or cursor, SQLAlchemy's Connection or Session, or Django's connection; asynchronous ones, and"
    " asyncpg's, are for AsyncPatternStorageClient"
)
ACCEPTED_ASYNC = (
    "a psycopg AsyncConnection or AsyncCursor, SQLAlchemy's AsyncConnection or AsyncSession, or an asyncpg connection;"
    " synchronous ones are for PatternStorageClient"
)


def executor(connection: Any) -> Execute:
    """Return the function that executes on a synchronous connection. Raises ConnectionUnsupported."""
    if isinstance(connection, psycopg.Cursor):
        connection = connection.connection
    if isinstance(connection, psycopg.Connection):
        _check_transaction(connection, "with connection.transaction()")
        # Not the connection's own kind of cursor, whose rows may be dictionaries.
        return _with_cursor(partial(psycopg.Cursor, connection, row_factory=tuple_row))
    kinds = _kinds(connection)
    if kinds & SQLALCHEMY:
        return _of_sqlalchemy(connection, is_session=("sqlalchemy", "Connection") not in kinds)
    if kinds & DJANGO:
        if connection.vendor != "postgresql":
            raise ConnectionUnsupported(connection, f"one to PostgreSQL, not to {connection.vendor}")
        if connection.get_autocommit():
            raise ConnectionUnsupported(connection, "one inside `with transaction.atomic()`")
        return _with_cursor(connection.cursor)
    raise ConnectionUnsupported(connection, ACCEPTED)


def async_executor(connection: Any) -> AsyncExecute:
    """Return the function that executes on an asynchronous connection. Raises ConnectionUnsupported."""
    if isinstance(connection, psycopg.AsyncCursor):
        connection = connection.connection
    if isinstance(connection, psycopg.AsyncConnection):
        _check_transaction(connection, "async with connection.transaction()")
        return _psycopg_async(connection)
    kinds = _kinds(connection)
    if kinds & SQLALCHEMY_ASYNC:
        return _of_sqlalchemy_async(connection, is_session=("sqlalchemy", "AsyncConnection") not in kinds)
    if kinds & ASYNCPG:
        if not connection.is_in_transaction():
            raise ConnectionUnsupported(connection, "one inside `async with connection.transaction()`")

        async def fetch(statement: LiteralString, jobs: str) -> Sequence[Sequence[Any]]:
            rows: Sequence[Sequence[Any]] = await connection.fetch(statement.replace("%(jobs)s", "$1"), jobs)
            return rows

        return fetch
    raise ConnectionUnsupported(connection, ACCEPTED_ASYNC)


def _kinds(connection: Any) -> set[tuple[str, str]]:
    return {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(connection).__mro__}


def _check_transaction(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], inside: str) -> None:
    """Raise ConnectionUnsupported if a statement would be committed at once."""
    if connection.autocommit and connection.info.transaction_status is TransactionStatus.IDLE:
        raise ConnectionUnsupported(connection, f"one inside `{inside}`, as it is in autocommit mode")


def _with_cursor(open_cursor: Callable[[], Any]) -> Execute:
    def execute(statement: LiteralString, jobs: str) -> Sequence[Sequence[Any]]:
        with open_cursor() as cursor:
            cursor.execute(statement, {"jobs": jobs})
            rows: Sequence[Sequence[Any]] = cursor.fetchall()
            return rows

    return execute


def _psycopg_async(connection: psycopg.AsyncConnection[Any]) -> AsyncExecute:
    async def execute(statement: LiteralString, jobs: str) -> Sequence[Sequence[Any]]:
        async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
            return await (await cursor.execute(statement, {"jobs": jobs})).fetchall()

    return execute


def _of_sqlalchemy(connection: Any, *, is_session: bool) -> Execute:
    _check_dialect(connection)

    def execute(statement: LiteralString, jobs: str) -> Sequence[Sequence[Any]]:
        _check_autocommit(connection, connection.connection() if is_session else connection)
        rows: Sequence[Sequence[Any]] = connection.execute(*_sqlalchemy(statement, jobs)).fetchall()
        return rows

    return execute


def _of_sqlalchemy_async(connection: Any, *, is_session: bool) -> AsyncExecute:
    _check_dialect(connection)

    async def execute(statement: LiteralString, jobs: str) -> Sequence[Sequence[Any]]:
        used = await connection.connection() if is_session else connection
        _check_autocommit(connection, used.sync_connection)
        rows: Sequence[Sequence[Any]] = (await connection.execute(*_sqlalchemy(statement, jobs))).fetchall()
        return rows

    return execute


def _check_autocommit(given: Any, connection: Any) -> None:
    """Raise ConnectionUnsupported for a connection of SQLAlchemy that commits each statement at once."""
    driver = getattr(getattr(connection, "connection", None), "dbapi_connection", None)
    if getattr(driver, "autocommit", False) is True:
        raise ConnectionUnsupported(given, "one whose isolation level is not AUTOCOMMIT")


def _sqlalchemy(statement: LiteralString, jobs: str) -> tuple[Any, dict[str, str]]:
    # It is installed: the connection is one of its own.
    from sqlalchemy import text

    return text(statement.replace("%(jobs)s", ":jobs")), {"jobs": jobs}


def _check_dialect(connection: Any) -> None:
    """Raise ConnectionUnsupported for another database; a session that is bound by class is not checked."""
    bind = getattr(connection, "bind", None) or connection
    dialect = getattr(getattr(bind, "dialect", None), "name", "postgresql")
    if dialect != "postgresql":
        raise ConnectionUnsupported(connection, f"one to PostgreSQL, not to {dialect}")
