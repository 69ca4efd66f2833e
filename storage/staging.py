"""Staging table of an import: COPY into a temporary table, then one merge, in the caller's transaction.

The temporary table has none of the constraints and indexes of `pattern_templates`, so that invalid rows are found and
named by file and line before the merge.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

from psycopg import AsyncCopy
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Identifier
from pydantic_core import to_json

from pattern_storage.storage.operations.base import Connection, Statement, fetch_one, identifiers
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.storage.sql import block

#: Policy for a row whose key exists: the run fails, the row is skipped, the pattern is updated.
OnConflict = Literal["error", "skip", "update"]

KEY = ("pattern_name", "pattern_type", "language")


@dataclass(frozen=True)
class RejectedRow:
    """A staged row that cannot be merged. `file` counts from 0 in the order of the copy, `line` is the row's number.

    `earlier`: file and line of the row that it duplicates. `row`: its values, where the caller has them no more.
    """

    file: int
    line: int
    reason: str
    earlier: tuple[int, int] | None = None
    row: dict[str, Any] | None = None


#: Marks within a row that is encoded; no text has a NUL. A row ends with a newline that is put behind all escaping.
_SEPARATOR, _NULL = "\0t", "\0n"

_columns_of = itemgetter(*WRITABLE)


class JsonText(str):
    """A context that is JSON already."""

    __slots__ = ()


def encode(values: Mapping[str, Any], place: str = "") -> str:
    """Return checked values of all writable columns as a line of COPY's text format.

    Not by psycopg, because this runs in another thread than the connection's. All texts of a row are escaped at once.

    Args:
        values: of one row, by column.
        place: its file and line, for the staging table, each with a tab behind it.
    """
    texts = [value if type(value) is str else _text(value) for value in _columns_of(values)]
    row = _SEPARATOR.join(texts).replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return place + row.replace(_SEPARATOR, "\t").replace(_NULL, "\\N") + "\n"


def _text(value: Any) -> str:
    # The most frequent first.
    if value is None:
        return _NULL
    if type(value) is list:
        if not value:
            return "{}"
        tags = "\0".join(value).replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
        return f'{{"{tags}"}}'
    if type(value) is dict:
        return to_json(value, inf_nan_mode="constants").decode() if value else "{}"
    if type(value) is bool:
        return "t" if value else "f"
    return str(value)


async def create(connection: Connection) -> None:
    """Create the staging table; it goes when the caller's transaction ends."""
    await connection.execute(block("create_staging"))


def copy(connection: Connection) -> AbstractAsyncContextManager[AsyncCopy]:
    """Open the stream that takes what `encode` returns, with its place, into the staging table."""
    return connection.cursor().copy(SQL(block("copy_staging")).format(columns=identifiers(WRITABLE)))


def copy_directly(connection: Connection) -> AbstractAsyncContextManager[AsyncCopy]:
    """Open the stream that takes what `encode` returns, without a place, into `pattern_templates` itself."""
    return connection.cursor().copy(SQL(block("copy_first_load")).format(columns=identifiers(WRITABLE)))


async def is_first_load(connection: Connection) -> bool:
    """Return whether there is no pattern yet."""
    row = await fetch_one(connection, block("is_first_load"), {})
    return bool(row and row[0])


async def find_duplicates(connection: Connection, *, limit: int) -> tuple[int, list[RejectedRow]]:
    """Find rows whose key an earlier row has: their number, and the first of them."""
    count = await _number(connection, block("count_duplicates"))
    if not count:
        return 0, []
    rows = await _all(connection, block("find_duplicates"), {"limit": limit})
    return count, [
        RejectedRow(file, line, f"the same pattern again: {_name(key)}", (first_file, first_line))
        for file, line, first_file, first_line, *key in rows
    ]


async def drop_duplicates(connection: Connection, *, keep_first: bool) -> int:
    """Keep one row of each key, the first or the last; return how many were deleted."""
    return (await connection.execute(block("drop_duplicates"), {"keep_first": keep_first})).rowcount


async def find_orphans(connection: Connection, *, limit: int) -> tuple[int, list[RejectedRow]]:
    """Find rows whose parent does not exist: their number, and the first of them."""
    count = await _number(connection, block("count_orphans"))
    if not count:
        return 0, []
    rows = await _all(connection, block("find_orphans"), {"limit": limit})
    return count, [RejectedRow(file, line, _no_parent(parent)) for file, line, parent in rows]


async def remove_orphans(connection: Connection) -> list[RejectedRow]:
    """Delete all rows whose parent does not exist, and return them."""
    rows = await _all(connection, block("remove_orphans"), {})
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
    row = await fetch_one(connection, statement, {})
    return (0, 0) if row is None else (row[0], row[1])


async def find_existing(connection: Connection, *, limit: int) -> tuple[int, list[RejectedRow]]:
    """After a merge: find staged rows whose key existed before: their number, and the first of them."""
    rows = await _all(connection, block("find_existing"), {"limit": limit})
    findings = [RejectedRow(file, line, f"Pattern already exists: {_name(key)}") for file, line, *key in rows]
    return await _number(connection, block("count_existing")), findings


def _of(table: str, columns: Iterable[str]) -> Composable:
    return SQL(", ").join(Identifier(table, column) for column in columns)


def _name(key: Any) -> str:
    name, kind, language = key
    return f"{name} ({kind}/{language})"


def _no_parent(parent: Any) -> str:
    return f"parent_pattern_id {parent} does not exist"


async def _number(connection: Connection, statement: Statement) -> int:
    row = await fetch_one(connection, statement, {})
    return int(row[0]) if row else 0


async def _all(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()
