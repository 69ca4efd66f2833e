"""Changes while others read and write the table: columns and indexes added, rows filled, outside a transaction.

Each step looks at what there is first, so a migration that was killed half-way does the rest when it is run again: an
index that PostgreSQL left invalid is dropped and built anew.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from alembic import op
from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

#: The index of that name on the table, whichever schema the search path finds the table in.
FIND = text("""
SELECT indexrelid::regclass::text AS index, indisvalid AS valid
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = CAST(:table AS regclass) AND relname = :name
""")

#: A builder whose client was killed goes on, and holds the table's lock until it is done.
BUILDING = text("SELECT 1 FROM pg_stat_progress_create_index WHERE relid = CAST(:table AS regclass)")

#: Milliseconds that a change of a table waits for its lock, since others wait behind it; then it tries again.
LOCK_TIMEOUT = 500


def add_columns(table: str, columns: Iterable[str]) -> None:
    """Add columns, each `name type` without a default, unless they are there: the table is not rewritten."""
    added = ", ".join(f"ADD COLUMN IF NOT EXISTS {column}" for column in columns)
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = {LOCK_TIMEOUT}")
        try:
            while not _changed(f"ALTER TABLE {table} {added}"):
                time.sleep(0.2)
        finally:
            op.execute("RESET lock_timeout")


def _changed(statement: str) -> bool:
    try:
        op.execute(statement)
    except DBAPIError as error:
        if isinstance(error.orig, LockNotAvailable):
            return False
        raise
    return True


def repeat(statement: str, values: Mapping[str, Any]) -> int:
    """Execute a statement, each time in a transaction of its own, until it changes no row; return how many it did."""
    changed = 0
    with op.get_context().autocommit_block():
        while step := op.get_bind().exec_driver_sql(statement, dict(values)).rowcount:
            changed += step
    return changed


def create_index(table: str, name: str, definition: str) -> None:
    """Create the index `CREATE INDEX <name> ON <table> <definition>`, unless it is there and valid."""
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        # Asked again and again: a statement that waits would hold a snapshot, and the builder waits for snapshots.
        while connection.execute(BUILDING, {"table": table}).first():
            time.sleep(0.2)
        found = connection.execute(FIND, {"table": table, "name": name}).first()
        if found and not found.valid:
            op.execute(f"DROP INDEX CONCURRENTLY {found.index}")
        if not (found and found.valid):
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} {definition}")


def drop_index(table: str, name: str) -> None:
    """Drop the index, unless it is gone."""
    with op.get_context().autocommit_block():
        found = op.get_bind().execute(FIND, {"table": table, "name": name}).first()
        if found:
            op.execute(f"DROP INDEX CONCURRENTLY {found.index}")


def analyze(table: str) -> None:
    """Bring the planner's statistics up to date: a new index on an expression has none."""
    with op.get_context().autocommit_block():
        op.execute(f"ANALYZE {table}")
