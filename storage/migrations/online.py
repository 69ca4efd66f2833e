"""Indexes built and dropped while others read and write the table: CONCURRENTLY, outside a transaction.

Each step looks at what there is first, so a migration that was killed half-way does the rest when it is run again: an
index that PostgreSQL left invalid is dropped and built anew.
"""

import time

from alembic import op
from sqlalchemy import text

#: The index of that name on the table, whichever schema the search path finds the table in.
FIND = text("""
SELECT indexrelid::regclass::text AS index, indisvalid AS valid
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = CAST(:table AS regclass) AND relname = :name
""")

#: A builder whose client was killed goes on, and holds the table's lock until it is done.
BUILDING = text("SELECT 1 FROM pg_stat_progress_create_index WHERE relid = CAST(:table AS regclass)")


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
