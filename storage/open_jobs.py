"""Jobs that have not ended, in the tables that know of one: dead letters, attempts, outbox, runs of imports.

No index has what their filters ask for, and rows of one table are hidden by those of another. So a page looks at
SEARCHED rows of each table at most, in the order of the list, and says where the next page goes on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.rows import class_row, scalar_row, tuple_row
from psycopg.sql import SQL, Identifier

from pattern_storage.storage.job_filter import Cursor, JobFilter
from pattern_storage.storage.job_row import JobRow
from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import ListedState

#: Rows of one table that a page looks at; to read a job out of its contract takes PostgreSQL a microsecond or more.
SEARCHED = 10_000

#: The parts of the statements that depend on the direction of the list.
NEWEST_FIRST = {"direction": SQL("DESC"), "beyond": SQL("<"), "until": SQL(">=")}
OLDEST_FIRST = {"direction": SQL("ASC"), "beyond": SQL(">"), "until": SQL("<=")}


@dataclass(frozen=True)
class OpenTable:
    """A table of jobs that have not ended.

    Attributes:
        source: the statement that lists them.
        states: those that a job may have there.
        place: its name, and the column that it is listed by, which an index has; None if all rows are looked at,
            because few of them are open, and these have an index.
    """

    source: LiteralString
    states: tuple[ListedState, ...]
    place: tuple[str, str] | None


TABLES = (
    OpenTable(block("source_dead"), (ListedState.DEAD,), ("dead_letters", "died_at")),
    OpenTable(block("source_retry"), (ListedState.RETRY,), ("job_attempts", "first_at")),
    OpenTable(block("source_outbox"), (ListedState.QUEUED,), ("outbox", "created_at")),
    OpenTable(block("source_imports"), (ListedState.QUEUED, ListedState.STARTED), None),
)


async def list_jobs(
    connection: Connection, wanted: JobFilter, values: Mapping[str, Any], *, descending: bool
) -> tuple[list[JobRow], Cursor | None]:
    """Return a page of each table's jobs, and the place up to which all were searched; None for their ends.

    `values` are those of the filter, of the cursor and of the limit.
    """
    order = NEWEST_FIRST if descending else OLDEST_FIRST
    found: list[JobRow] = []
    ends: list[Cursor] = []
    for table, state in _tables(wanted):
        given = {**values, "state": state}
        end = await _find_end(connection, table, given, order)
        ends += [end] if end else []
        statement = SQL(block("list_open_jobs")).format(source=SQL(table.source), **order)
        found += await fetch_all(connection, class_row(JobRow), statement, given | _of_end(end), prepare=False)
    nearest = max if descending else min
    return found, nearest(ends, key=lambda end: (end.value, end.correlation_id), default=None)


async def count_jobs(
    connection: Connection, wanted: JobFilter, values: Mapping[str, Any], *, limit: int, everywhere: bool
) -> tuple[int, bool]:
    """Return how many there are, counted up to `limit`, and whether no more is to be found.

    Unless it is to look everywhere it looks at the newest SEARCHED rows of each table.
    """
    total, whole = 0, True
    for table, state in _tables(wanted):
        given = {**values, "state": state, "limit": limit - total}
        end = None if everywhere else await _find_end(connection, table, given, NEWEST_FIRST)
        statement = SQL(block("count_open_jobs")).format(source=SQL(table.source), **NEWEST_FIRST)
        [found] = await fetch_all(connection, scalar_row, statement, given | _of_end(end), prepare=False)
        total += found
        whole = whole and end is None
        if total >= limit:
            return limit, False
    return total, whole


def _tables(wanted: JobFilter) -> Iterator[tuple[OpenTable, ListedState | None]]:
    """Yield the tables to look into, each with its one state that is wanted, None for all of them."""
    for table in TABLES:
        if among := wanted.among(*table.states):
            yield table, among[0] if len(among) == 1 else None


async def _find_end(
    connection: Connection, table: OpenTable, values: Mapping[str, Any], order: Mapping[str, SQL]
) -> Cursor | None:
    """Return the place of the last row that is looked at; None if these are all, or one is found by its id.

    Asked before they are read: of rows that are gone by then none is skipped that was not looked at.
    """
    if table.place is None or values["correlation_id"] is not None:
        return None
    name, time = map(Identifier, table.place)
    statement = SQL(block("end_of_search")).format(table=name, time=time, **order)
    places = await fetch_all(connection, tuple_row, statement, {**values, "searched": SEARCHED - 1}, prepare=False)
    return Cursor(*places[0]) if places else None


def _of_end(end: Cursor | None) -> dict[str, Any]:
    return {"end_at": end and end.value, "end_id": end and end.correlation_id}
