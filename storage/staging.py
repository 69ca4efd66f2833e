"""Staging table of an import: COPY into a temporary table, then one merge, in the caller's transaction.

The temporary table has none of the constraints and indexes of `pattern_templates`, so that invalid rows are found and
named by file and line before the merge.
"""

from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import AsyncCopy
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Identifier

from pattern_storage.storage.errors import UniqueViolation
from pattern_storage.storage.operations.base import identifiers
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.storage.rows import Connection, fetch_all, fetch_one, fetch_value
from pattern_storage.storage.sql import block

#: Policy for a row whose key exists: the run fails, the row is skipped, the pattern is updated.
OnConflict = Literal["error", "skip", "update"]

KEY = ("pattern_name", "pattern_type", "language")


@dataclass(frozen=True)
class RejectedRow:
    """A staged row that cannot be merged. `file` counts from 0 in the order of the copy, `line` is the row's number.

    `earlier`: file and line of the row that it duplicates. `row`: its values, where they are no longer in the table.
    """

    file: int
    line: int
    reason: str
    earlier: tuple[int, int] | None = None
    row: dict[str, Any] | None = None


async def create(connection: Connection) -> None:
    """Create the staging table; it goes when the caller's transaction ends."""
    await connection.execute(block("create_staging"))


def copy(connection: Connection) -> AbstractAsyncContextManager[AsyncCopy]:
    """Open the stream that takes `copy_rows` with their place into the staging table."""
    return connection.cursor().copy(SQL(block("copy_staging")).format(columns=identifiers(WRITABLE)))


def copy_directly(connection: Connection) -> AbstractAsyncContextManager[AsyncCopy]:
    """Open the stream that takes `copy_rows` without a place into `pattern_templates` itself."""
    return connection.cursor().copy(SQL(block("copy_first_load")).format(columns=identifiers(WRITABLE)))


async def is_first_load(connection: Connection) -> bool:
    """Return whether there is no pattern yet."""
    return bool(await fetch_value(connection, block("is_first_load")))


async def find_duplicates(connection: Connection, *, limit: int) -> tuple[int, list[RejectedRow]]:
    """Find rows whose key an earlier row has: their number, and the first of them."""
    count: int = await fetch_value(connection, block("count_duplicates"))
    if not count:
        return 0, []
    rows = await fetch_all(connection, tuple_row, block("find_duplicates"), {"limit": limit})
    return count, [
        RejectedRow(file, line, f"the same pattern again: {name} ({kind}/{language})", (first_file, first_line))
        for file, line, first_file, first_line, name, kind, language in rows
    ]


async def drop_duplicates(connection: Connection, *, keep_first: bool) -> int:
    """Keep one row of each key, the first or the last; return how many were deleted."""
    return (await connection.execute(block("drop_duplicates"), {"keep_first": keep_first})).rowcount


async def find_orphans(connection: Connection, *, limit: int) -> tuple[int, list[RejectedRow]]:
    """Find rows whose parent does not exist: their number, and the first of them."""
    count: int = await fetch_value(connection, block("count_orphans"))
    if not count:
        return 0, []
    rows = await fetch_all(connection, tuple_row, block("find_orphans"), {"limit": limit})
    return count, [RejectedRow(file, line, _no_parent(parent)) for file, line, parent in rows]


async def remove_orphans(connection: Connection) -> list[RejectedRow]:
    """Delete all rows whose parent does not exist, and return them."""
    rows = await fetch_all(connection, tuple_row, block("remove_orphans"))
    return [RejectedRow(file, line, _no_parent(parent), row=row) for file, line, parent, row in rows]


async def merge(connection: Connection, on_conflict: OnConflict, given: Collection[str]) -> tuple[int, int]:
    """Merge the staged rows by one statement; return how many patterns were inserted and updated.

    Args:
        connection: in the transaction that has the staging table.
        on_conflict: the policy for existing keys. "error" skips them too: compare the count, see `find_existing`.
        given: the columns that the source has. An update changes only these.
    """
    changed = [column for column in WRITABLE if column in given and column not in KEY]
    if on_conflict != "update" or not changed:
        statement = SQL(block("merge_new")).format(columns=identifiers(WRITABLE))
    else:
        statement = SQL(block("merge_all")).format(
            columns=identifiers(WRITABLE),
            assignments=SQL(", ").join(SQL("{0} = excluded.{0}").format(Identifier(name)) for name in changed),
            present=_of("present", changed),
            given=_of("excluded", changed),
        )
    row = await fetch_one(connection, statement)
    return (0, 0) if row is None else (row[0], row[1])


async def find_existing(connection: Connection, *, limit: int) -> tuple[int, list[RejectedRow]]:
    """After a merge: find staged rows whose key existed before: their number, and the first of them."""
    rows = await fetch_all(connection, tuple_row, block("find_existing"), {"limit": limit})
    findings = [RejectedRow(file, line, str(UniqueViolation(*key))) for file, line, *key in rows]
    return await fetch_value(connection, block("count_existing")), findings


def _of(table: str, columns: Iterable[str]) -> Composable:
    return SQL(", ").join(Identifier(table, column) for column in columns)


def _no_parent(parent: Any) -> str:
    return f"parent_pattern_id {parent} does not exist"
