"""Group execution: the writes of many jobs in one transaction, each with its own outcome.

A transaction costs PostgreSQL and the driver far more than the row that it writes, so a worker executes the jobs that
it has at hand together. What makes that safe:

- every job has its own outcome: a pattern that exists already or is missing is a result, no error of the transaction;
- the effects and all ledger rows commit together: each job is done once or not at all, as if it had run alone;
- any error rolls everything back, and the caller executes each job alone: a bad job cannot spoil its neighbours;
- nothing waits long for a lock while it holds those of the others (`LOCK_TIMEOUT`).

Statements are pipelined, in two round trips for a group of any size: BEGIN and the effects, the ledger and COMMIT.
https://www.postgresql.org/docs/18/libpq-pipeline-mode.html
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from psycopg import AsyncCursor
from psycopg.rows import tuple_row
from psycopg.sql import SQL
from pydantic_core import to_json

from pattern_storage.storage.ids import new_id
from pattern_storage.storage.operations.base import Connection, identifiers
from pattern_storage.storage.operations.delete import Delete
from pattern_storage.storage.operations.insert import Insert
from pattern_storage.storage.operations.update import Update
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.storage.sql import block

#: The operations that can share a transaction: writes of one row.
Single = Insert | Update | Delete

#: Seconds that a group waits for a lock: the row that somebody else holds must not hold thirty other jobs.
LOCK_TIMEOUT = 0.2

INSERTS = SQL(block("insert_patterns")).format(columns=identifiers(WRITABLE))

#: Returns `ModelResult.data` of one operation that has been applied. Raises StorageError for one that failed.
Read = Callable[[], dict[str, Any]]


async def apply_all(connection: Connection, operations: Sequence[Single]) -> list[Read]:
    """Make the effects in the caller's transaction, in this order; return how to read each one's data.

    Neighbouring inserts are one statement. Raises psycopg.Error; the caller's transaction must then roll back.
    """
    sent: list[tuple[AsyncCursor[Any], list[Any], list[Single]]] = []
    for _, run in groupby(operations, key=_batch_key):
        batch = list(run)
        cursor = connection.cursor(row_factory=tuple_row)
        ids = [new_id() for _ in batch] if isinstance(batch[0], Insert) else []
        statement, values = _insert(batch, ids) if ids else batch[0].statement()  # type: ignore[union-attr]
        await cursor.execute(statement, values)
        sent.append((cursor, ids, batch))
    return [read for cursor, ids, batch in sent for read in _reads(await cursor.fetchall(), ids, batch)]


def _batch_key(operation: Single) -> int:
    """Return what neighbouring operations of one statement have in common: all inserts, or nothing."""
    return 0 if isinstance(operation, Insert) else id(operation)


def _insert(batch: Sequence[Any], ids: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    rows = [{"id": row_id, **vars(one.pattern)} for row_id, one in zip(ids, batch, strict=True)]
    # In key order: two groups that share keys wait for each other, where they would deadlock otherwise.
    rows.sort(key=lambda row: (row["pattern_name"], row["pattern_type"], row["language"]))
    return INSERTS, {"patterns": to_json(rows).decode()}


def _reads(rows: Sequence[Any], ids: Sequence[Any], batch: Sequence[Single]) -> Iterator[Read]:
    if not ids:
        yield partial(batch[0].read, rows[0] if rows else None)
    written = {row[0]: row for row in rows} if ids else {}
    for row_id, one in zip(ids, batch, strict=False):
        yield partial(one.read, written.get(row_id))
