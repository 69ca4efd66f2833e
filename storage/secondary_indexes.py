"""Secondary indexes of the patterns, dropped before a first large load and built again after it, in one transaction.

Building an index is one sort; filling it row by row is a search for each row. All other transactions wait for this one,
also readers: DROP INDEX locks the table. If it rolls back, the indexes are as they were.
"""

from typing import NamedTuple

from psycopg.rows import class_row

from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block


class SecondaryIndex(NamedTuple):
    """An index that is no constraint: statements to drop it, and to build it again with statistics and comment."""

    drop: str
    create: list[str]


async def may_rebuild(connection: Connection) -> bool:
    """Return whether this role owns the table."""
    return bool(await fetch_value(connection, block("owns_patterns")))


async def drop(connection: Connection) -> list[SecondaryIndex]:
    """Drop all secondary indexes, and return them. Waits for the table's lock."""
    indexes = await fetch_all(connection, class_row(SecondaryIndex), block("list_secondary_indexes"))
    for index in indexes:
        await connection.execute(index.drop.encode())
    return indexes


async def build(connection: Connection, index: SecondaryIndex) -> None:
    """Build a dropped index again."""
    for statement in index.create:
        await connection.execute(statement.encode())
