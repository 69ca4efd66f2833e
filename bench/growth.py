"""Growth: what each part of the storage costs at 1,000, 100,000 and 1,000,000 rows, and what jobs leave in Redis.

CPU time of the PostgreSQL process that serves the connection, in microseconds a call: other work on the machine does
not change it. Rows are made by the server. Then 1,000,000 jobs go through a worker, and what they leave in Redis is
counted.

    python -m bench.growth [ROWS ...]      1000 100000 1000000 if left out; Linux only
    JOBS=20000 python -m bench.growth      as many jobs
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import psycopg

from bench import growth_redis
from bench.growth_bookkeeping import bookkeeping
from bench.growth_costs import costs
from bench.growth_rows import FILL
from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.storage import schema

SIZES = (1_000, 100_000, 1_000_000)


def measure(url: str, sizes: list[int]) -> None:
    """Print the table."""
    table: dict[str, list[float]] = {}
    filled = 0
    for rows in sizes:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in FILL.values():
                connection.execute(statement.format(rows=rows, start=filled).encode())
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        filled = rows

        async def collect() -> None:
            async for name, microseconds in costs(url):
                table.setdefault(name, []).append(microseconds)
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                async for name, microseconds in bookkeeping(connection, connection.info.backend_pid):
                    table.setdefault(name, []).append(microseconds)

        asyncio.run(collect())
        print(f"# {rows:,} rows measured", file=sys.stderr, flush=True)
    print(f"{'microseconds of CPU in PostgreSQL':>36}", *(f"{rows:>12,}" for rows in sizes), "   ratio")
    for name, found in table.items():
        print(f"{name:>36}", *(f"{each:>12,.1f}" for each in found), f"{found[-1] / found[0]:>8.2f}")


def main() -> None:
    """Run on servers of our own."""
    sizes = [int(each) for each in sys.argv[1:]] or list(SIZES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(folder / "postgres") as server:
            schema.upgrade(server.url)
            measure(server.url, sizes)
        growth_redis.measure(folder, int(os.environ.get("JOBS", growth_redis.JOBS)))


if __name__ == "__main__":
    main()
