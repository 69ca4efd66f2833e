"""Four ways to write one atomic batch, on identical rows: why `batch_insert` is what it is.

Every way runs in one explicit transaction on one connection, into the real table with all its indexes, and
must be able to tell which row failed. Prints milliseconds for each batch size, the median of several rounds.

    python -m bench.batch_insert [DATABASE_URL]      without a URL: an embedded PostgreSQL in a temporary folder
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.extract import harvest, standard_library
from pattern_storage.storage import schema
from pattern_storage.storage.pattern import WRITABLE, Pattern

Row = dict[str, Any]
COLUMNS = ("id", *WRITABLE)
NAMES = ", ".join(COLUMNS)
CONFLICT = "ON CONFLICT (pattern_name, pattern_type, language) DO NOTHING RETURNING id"


async def executemany(connection: psycopg.AsyncConnection, rows: list[Row]) -> None:
    """One INSERT a row, pipelined by psycopg."""
    values = [[Jsonb(row[name]) if name == "context" else row[name] for name in COLUMNS] for row in rows]
    places = ", ".join(["%s"] * len(COLUMNS))
    await connection.cursor().executemany(f"INSERT INTO pattern_templates ({NAMES}) VALUES ({places})", values)


async def recordset(connection: psycopg.AsyncConnection, rows: list[Row], kind: str = "json") -> None:
    """One INSERT from one JSON document."""
    document = json.dumps(rows, ensure_ascii=False, default=str)
    await connection.execute(
        f"INSERT INTO pattern_templates ({NAMES}) SELECT {NAMES}"
        f" FROM {kind}_populate_recordset(NULL::pattern_templates, %s::{kind}) {CONFLICT}",
        [document],
    )


async def jsonb_recordset(connection: psycopg.AsyncConnection, rows: list[Row]) -> None:
    """The same from jsonb."""
    await recordset(connection, rows, "jsonb")


async def copy(connection: psycopg.AsyncConnection, rows: list[Row]) -> None:
    """COPY straight into the table; the failing row is in the error's context."""
    async with connection.cursor().copy(f"COPY pattern_templates ({NAMES}) FROM STDIN") as stream:
        for row in rows:
            await stream.write_row([Jsonb(row[name]) if name == "context" else row[name] for name in COLUMNS])


WAYS: dict[str, Callable[[psycopg.AsyncConnection, list[Row]], Awaitable[None]]] = {
    "executemany": executemany,
    "json recordset": recordset,
    "jsonb recordset": jsonb_recordset,
    "COPY": copy,
}


async def measure(url: str) -> None:
    """Print a table of ways against batch sizes."""
    patterns = [Pattern.model_validate(data).model_dump() for data in islice(harvest(standard_library()), 10_000)]
    print(f"{'rows':>6} " + " ".join(f"{name:>18}" for name in WAYS))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for size, rounds in ((1, 50), (10, 50), (100, 20), (1_000, 5), (10_000, 3)):
            medians = []
            for write in WAYS.values():
                times = []
                for _ in range(rounds):
                    rows = [{**pattern, "id": uuid4()} for pattern in patterns[:size]]
                    started = time.perf_counter()
                    async with connection.transaction():
                        await write(connection, rows)
                    times.append((time.perf_counter() - started) * 1000)
                    await connection.execute("TRUNCATE pattern_templates")
                medians.append(statistics.median(times))
            print(f"{size:>6} " + " ".join(f"{value:>15.2f} ms" for value in medians))


def main() -> None:
    """Run against the given URL, or against a server of our own."""
    if len(sys.argv) > 1:
        schema.upgrade(sys.argv[1])
        asyncio.run(measure(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            schema.upgrade(server.url)
            asyncio.run(measure(server.url))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
