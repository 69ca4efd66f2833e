"""Dead letters in pages: first which there are, then as many of their contracts as fit in memory.

One contract may be a batch of ten thousand patterns, and after an outage there are many.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from pattern_storage.storage.operations.base import Connection
from pattern_storage.storage.sql import block

#: Dead letters in a page, without contracts: a few hundred kilobytes.
PAGE_SIZE = 5_000

#: Contracts to read at once, and their bytes as PostgreSQL stores them, compressed; at least one always fits.
GROUP_LIMIT = 50
GROUP_SIZE = 250_000


@dataclass(frozen=True)
class Entry:
    """Where a dead letter stands, and the bytes that its contract takes in the table."""

    correlation_id: UUID
    died_at: datetime
    size: int


async def page(
    connection: Connection,
    *,
    ids: Sequence[UUID] | None = None,
    error_type: str | None = None,
    after: Entry | None = None,
    limit: int = PAGE_SIZE,
) -> list[Entry]:
    """Return dead letters from the newest on, or behind `after`: all, those with these ids, or of this error_type.

    One that dies again meanwhile moves to the front, so whoever goes on from page to page meets none twice.
    """
    values = {
        "ids": list(ids) if ids is not None else None,
        "error_type": error_type,
        "died_at": after and after.died_at,
        "correlation_id": after and after.correlation_id,
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(Entry)) as cursor:
        await cursor.execute(block("page_dead_letters"), values)
        return await cursor.fetchall()


def groups(entries: Sequence[Entry]) -> Iterator[list[UUID]]:
    """Divide entries, in order, into groups whose contracts may be read at once; yields their ids."""
    group: list[UUID] = []
    size = 0
    for entry in entries:
        if group and (len(group) == GROUP_LIMIT or size + entry.size > GROUP_SIZE):
            yield group
            group, size = [], 0
        group.append(entry.correlation_id)
        size += entry.size
    if group:
        yield group
