"""Growth: what each part of the storage costs at 1,000, 100,000 and 1,000,000 rows, and what jobs leave in Redis.

CPU time of the PostgreSQL process that serves the connection, in microseconds a call: other work on the machine changes
it little. Each number of rows has a database of its own, and they take turns in each round, so that a machine that
becomes slower does so for all. Rows are made by the server, and what a round adds is removed after it. Then 1,000,000
jobs go through a worker, and what they leave in Redis is counted.

    python -m bench.growth [ROWS ...]      1000 100000 1000000 if left out; Linux only
    ROUNDS=3 JOBS=20000 python -m bench.growth      as many rounds and jobs
"""

import asyncio
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from bench import growth_redis
from bench.growth_bookkeeping import bookkeeping
from bench.growth_costs import costs
from bench.growth_rows import fill, remove_new
from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.storage import schema

SIZES = (1_000, 100_000, 1_000_000)
ROUNDS = 5

#: Costs in microseconds, by what was done and the number of rows: one of each round.
Table = dict[str, dict[int, list[float]]]


def filled(url: str, rows: int) -> str:
    """Make a database with so many rows in each table; return its URL."""
    name = f"rows_{rows}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    made = make_conninfo(url, dbname=name)
    schema.upgrade(made)
    with psycopg.connect(made, autocommit=True) as connection:
        fill(connection, rows)
    print(f"# {rows:,} rows made", file=sys.stderr, flush=True)
    return made


async def measure_once(url: str, rows: int, table: Table) -> None:
    """Add what everything costs now in this database."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection, remove_new(connection):
        async for name, microseconds in costs(url):
            table[name][rows].append(microseconds)
        async for name, microseconds in bookkeeping(connection, connection.info.backend_pid):
            table[name][rows].append(microseconds)


def measure(url: str, sizes: list[int], rounds: int) -> None:
    """Print the least of all rounds, to which other work on the machine has added least, and the last by the first."""
    urls = {rows: filled(url, rows) for rows in sizes}
    table: Table = defaultdict(lambda: defaultdict(list))
    for turn in range(1, rounds + 1):
        for rows, each in urls.items():
            asyncio.run(measure_once(each, rows, table))
        print(f"# round {turn} of {rounds} measured", file=sys.stderr, flush=True)
    print(f"{'microseconds of CPU in PostgreSQL':>36}", *(f"{rows:>12,}" for rows in sizes), "   ratio")
    for name, found in table.items():
        least = [min(found[rows]) for rows in sizes]
        print(f"{name:>36}", *(f"{each:>12,.1f}" for each in least), f"{least[-1] / least[0]:>8.2f}")


def main() -> None:
    """Run on servers of our own."""
    sizes = [int(each) for each in sys.argv[1:]] or list(SIZES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(folder / "postgres") as server:
            measure(server.url, sizes, int(os.environ.get("ROUNDS", ROUNDS)))
        growth_redis.measure(folder, int(os.environ.get("JOBS", growth_redis.JOBS)))


if __name__ == "__main__":
    main()
