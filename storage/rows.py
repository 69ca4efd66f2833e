"""Rows that a statement returns, read the same way whatever row factory the caller's connection has."""

from collections.abc import Mapping
from typing import Any, LiteralString, TypeVar

from psycopg import AsyncConnection
from psycopg.rows import AsyncRowFactory, tuple_row
from psycopg.sql import SQL, Composed

Connection = AsyncConnection[Any]
Statement = LiteralString | SQL | Composed
Row = TypeVar("Row")


async def fetch_all(
    connection: Connection,
    row_factory: AsyncRowFactory[Row],
    statement: Statement,
    values: Mapping[str, Any] | None = None,
    *,
    prepare: bool | None = None,
) -> list[Row]:
    """Execute a statement and return all its rows, as one of psycopg's row factories makes them."""
    async with connection.cursor(row_factory=row_factory) as cursor:
        await cursor.execute(statement, values, prepare=prepare)
        return await cursor.fetchall()


async def fetch_one(
    connection: Connection, statement: Statement, values: Mapping[str, Any] | None = None
) -> tuple[Any, ...] | None:
    """Execute a statement and return its first row, None if there is none."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchone()


async def fetch_value(connection: Connection, statement: Statement, values: Mapping[str, Any] | None = None) -> Any:
    """Execute a statement and return the first column of its first row, None if there is no row."""
    row = await fetch_one(connection, statement, values)
    return None if row is None else row[0]
