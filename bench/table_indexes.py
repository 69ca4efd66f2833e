"""Cost of each index of the other tables: CPU of PostgreSQL and WAL of a row, with and without it, in turn.

Each table is filled as for `bench.growth`. The index that is left out is marked as not ready, so that no row goes into
it, and each round begins with a checkpoint; the rows that it adds are rolled back. Those of the ledger are measured by
`bench.ledger_indexes`, in its own statement.

    python -m bench.table_indexes [ROWS [ROUNDS]]      1000000 and 7 if left out; Linux only
"""

import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from bench.growth_costs import cpu
from bench.growth_rows import FILL
from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.storage import schema

ROWS, ROUNDS = 1_000_000, 7
ADDED = 20_000
#: Measured elsewhere.
LEFT_OUT = {"pattern_templates", "job_ledger"}
INDEXES = """
SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index
WHERE indrelid = %s::regclass AND NOT indisprimary
"""
READY = "UPDATE pg_index SET indisready = indexrelid <> %s::regclass WHERE indrelid = %s::regclass"
ALL_READY = "UPDATE pg_index SET indisready = true WHERE indrelid = %s::regclass"


def row(url: str, table: str, rows: int, without: str | None) -> tuple[float, float]:
    """Return the microseconds of CPU and bytes of WAL of a row after a checkpoint, without one index or with all."""
    with psycopg.connect(url, autocommit=True) as connection:
        if without is None:
            connection.execute(ALL_READY, [table])
        else:
            connection.execute(READY, [without, table])
    # A new connection: the first would go on with what it has read about the indexes.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        before, wal = cpu(connection.info.backend_pid), _wal(connection)
        with connection.transaction(force_rollback=True):
            connection.execute(FILL[table].format(start=rows, rows=rows + ADDED).encode())
            spent = (cpu(connection.info.backend_pid) - before) / ADDED / 1000
        return spent, (_wal(connection) - wal) / ADDED


def _wal(connection: psycopg.Connection[Any]) -> float:
    [(place,)] = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchall()
    return float(place)


def measure(url: str, table: str, rows: int, rounds: int) -> None:
    """Print what each index of one table adds to a row, and its size."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL[table].format(start=0, rows=rows).encode())
        connection.execute(f"VACUUM ANALYZE {table}".encode())
        sizes: dict[str, int] = dict(connection.execute(INDEXES, [table]).fetchall())
    found: dict[str | None, list[tuple[float, float]]] = {name: [] for name in (None, *sizes)}
    for _ in range(rounds):
        for without in random.sample(list(found), len(found)):
            found[without].append(row(url, table, rows, without))
    times = {without: statistics.median(spent for spent, _ in figures) for without, figures in found.items()}
    wal = {without: statistics.median(written for _, written in figures) for without, figures in found.items()}
    print(f"{table}: {times[None]:.1f} us and {wal[None]:.0f} B a row", flush=True)
    for name, size in sizes.items():
        added, bytes_ = times[None] - times[name], wal[None] - wal[name]
        print(f"{name:>50} {added:8.1f} us {bytes_:8.0f} B {size / 1e6:8.1f} MB", flush=True)


def main() -> None:
    """Run on a server of our own."""
    rows, rounds = [int(given) for given in sys.argv[1:]] + [ROWS, ROUNDS][len(sys.argv) - 1 :]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            schema.upgrade(server.url)
            for table in FILL:
                if table not in LEFT_OUT:
                    measure(server.url, table, rows, rounds)


if __name__ == "__main__":
    main()
