"""Cost of each index of the ledger: CPU of PostgreSQL and WAL of a row, with and without it, in turn.

All variants are measured in one table: an index that a variant lacks is marked as not ready, so that no row goes into
it. Each round begins with a checkpoint, after which PostgreSQL writes each page that changes as a whole, once.

    python -m bench.ledger_indexes [ROWS [ROUNDS]]      1000000 and 7 if left out; Linux only
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from bench.growth_costs import cpu
from bench.jobs import FILL, ROWS, contract, result_of
from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.storage import jobs, ledger, schema
from pattern_storage.storage.delivery import Delivery, delivered
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.vocabulary import ListedState

ROUNDS = 7
ROW_CALLS = 2_000

#: Other ways to find a job by its pattern's name, and the index of all durations.
TRIED = {
    "by_name": "(left(pattern_name, 100), finished_at, correlation_id) WHERE pattern_name IS NOT NULL",
    "by_hour_and_name": "(date_bin('1 hour', finished_at, 'epoch'), left(pattern_name, 100), finished_at)"
    " WHERE pattern_name IS NOT NULL",
    "by_time": "(finished_at, correlation_id)",
    "bloom": "USING brin (pattern_name text_bloom_ops(n_distinct_per_range = 256)) WITH (pages_per_range = 16)",
    "all_durations": "(duration_ms, correlation_id) WHERE duration_ms IS NOT NULL",
}
OF_LEDGER = "WHERE indrelid = 'job_ledger'::regclass"
INDEXES: LiteralString = f"SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index {OF_LEDGER}"
READY: LiteralString = f"UPDATE pg_index SET indisready = indexrelid::regclass::text = ANY (%s) {OF_LEDGER}"


#: The page that needs an index most.
NEED = {
    "job_ledger_finished_at_id": (JobFilter(pattern_name="nobody"), "time"),
    "job_ledger_operation": (JobFilter(operation="batch_insert"), "time"),
    "job_ledger_state": (JobFilter(states=(ListedState.REVOKED,)), "time"),
    "job_ledger_error_type": (JobFilter(error_type="deadlock"), "time"),
    "job_ledger_pkey": (JobFilter(correlation_id=UUID(int=7)), "time"),
}
VALID: LiteralString = f"UPDATE pg_index SET indisvalid = indexrelid::regclass::text <> %s {OF_LEDGER}"


async def worth(url: str, name: str) -> list[float]:
    """Return the milliseconds of CPU of the page that needs an index most, with it and without it, in turn."""
    found: dict[str, list[float]] = {"": [], name: []}
    for _ in range(3):
        for without, figures in found.items():
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute("SET max_parallel_workers_per_gather = 0")
                await connection.execute(VALID, [without])
                wanted, sort = NEED[name]
                await jobs.list_jobs(connection, wanted, sort=sort)
                before = cpu(connection.info.backend_pid)
                await jobs.list_jobs(connection, wanted, sort=sort)
                figures.append((cpu(connection.info.backend_pid) - before) / 1e6)
                await connection.execute(VALID, [""])
    return [statistics.median(figures) for figures in found.values()]


async def row(url: str) -> tuple[float, float]:
    """Return the microseconds of CPU and bytes of WAL of a row after a checkpoint."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("CHECKPOINT")
        for calls in (50, ROW_CALLS):
            before, wal = cpu(connection.info.backend_pid), await _wal(connection)
            for _ in range(calls):
                asked = contract()
                with delivered({asked.correlation_id: Delivery("storage", "celery@worker-1", time.time())}):
                    await ledger.record(connection, asked, result_of(asked.correlation_id))
        spent = (cpu(connection.info.backend_pid) - before) / ROW_CALLS / 1000
        return spent, (await _wal(connection) - wal) / ROW_CALLS


async def _wal(connection: Any) -> float:
    [(place,)] = await (await connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")).fetchall()
    return float(place)


def main() -> None:
    """Run on a server of our own."""
    rows, rounds = [int(given) for given in sys.argv[1:]] + [ROWS, ROUNDS][len(sys.argv) - 1 :]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            schema.upgrade(server.url, "pattern_storage_0006")
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute(FILL, {"rows": rows})
                schema.upgrade(server.url)
                own = {name for name, _ in connection.execute(INDEXES).fetchall()}
                connection.execute("VACUUM ANALYZE job_ledger")
                for name in NEED:
                    page = "{:8.1f} ms with it {:8.1f} without".format(*asyncio.run(worth(server.url, name)))
                    print(f"{name:>50} {page}", flush=True)
                for name, definition in TRIED.items():
                    connection.execute(f"CREATE INDEX {name} ON job_ledger {definition}")
                connection.execute("VACUUM ANALYZE job_ledger")
                sizes: dict[str, int] = dict(connection.execute(INDEXES).fetchall())
            variants = {"all of them": own}
            variants |= {f"without {name}": own - {name} for name in sorted(own) if not name.endswith("pkey")}
            variants |= {f"with {name}": own | {name} for name in TRIED}
            by_time = own - {"job_ledger_finished_at_id"}
            variants["with by_time instead of by time and hash"] = by_time | {"by_time"}
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
            for _ in range(rounds):
                for name in random.sample(list(variants), len(variants)):
                    with psycopg.connect(server.url, autocommit=True) as connection:
                        connection.execute(READY, [sorted(variants[name])])
                    found[name].append(asyncio.run(row(server.url)))
                print(end=".", flush=True)
            print()
            for name, figures in found.items():
                times, bytes_ = zip(*figures, strict=True)
                microseconds = f"{statistics.median(times):8.1f} us, least {min(times):6.1f}"
                print(f"{name:>50} {microseconds} {statistics.median(bytes_):8.0f} B")
            for name, size in sizes.items():
                print(f"{name:>50} {size / 1e6:8.1f} MB")


if __name__ == "__main__":
    main()
