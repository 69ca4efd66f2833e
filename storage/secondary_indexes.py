"""Secondary indexes of the patterns, dropped before a first large load and built again after it, in one transaction.

Building an index is a sort; filling it row by row is a search for each. All others wait while the transaction lasts,
also readers: DROP INDEX locks the table. If it rolls back, the indexes are as they were.
"""

from typing import NamedTuple

from psycopg.rows import class_row

from pattern_storage.storage.operations.base import Connection, fetch_one
from pattern_storage.storage.sql import block


class SecondaryIndex(NamedTuple):
    """An index that is no constraint: statements to drop it, and to have it again with statistics and comment."""

    drop: str
    create: list[str]


async def may_rebuild(connection: Connection) -> bool:
    """Return whether this role owns the table."""
    row = await fetch_one(connection, block("owns_patterns"), {})
    return bool(row and row[0])


async def drop(connection: Connection) -> list[SecondaryIndex]:
    """Drop all secondary indexes, and return them. Waits for the table's lock."""
    async with connection.cursor(row_factory=class_row(SecondaryIndex)) as cursor:
        await cursor.execute(block("list_secondary_indexes"))
        indexes = await cursor.fetchall()
    for index in indexes:
        await connection.execute(index.drop.encode())
    return indexes


async def build(connection: Connection, index: SecondaryIndex) -> None:
    """Build a dropped index again."""
    for statement in index.create:
        await connection.execute(statement.encode())
