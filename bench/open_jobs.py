"""Lists of jobs that have not ended, at 1,000, 100,000 and 300,000 rows of each table, and what the index costs a job.

CPU time of the PostgreSQL process that serves the connection, the least of three calls; other work on the machine does
not change it. Then jobs of the outbox are written, published and removed with and without the index that lists them, in
turn, alone and 64 to a transaction.

    python -m bench.open_jobs [ROWS ...]      1000 100000 300000 if left out; Linux only
"""

import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg

from bench.growth_costs import cpu
from bench.growth_rows import FILL
from bench.jobs import contract
from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.storage import dead_letter_pages, jobs, outbox, schema
from pattern_storage.storage.dead_letters import LetterFilter
from pattern_storage.storage.job_filter import Cursor, JobFilter
from pattern_storage.storage.rows import Connection
from pattern_storage.testing.databases import create_database, on_database
from pattern_storage.vocabulary import ListedState

SIZES = (1_000, 100_000, 300_000)
ROUNDS, JOBS = 7, 2_048

#: One row a second in each table.
ROWS = (
    """INSERT INTO outbox (correlation_id, contract, created_at, publish_after, published)
       SELECT gen_random_uuid(), json_build_object('operation', 'insert', 'data', json_build_object(
           'pattern_name', 'pattern ' || n, 'template_code', repeat(md5(n::text), 10))),
           now() - n * interval '1 second', now() + interval '1 day', 1 FROM generate_series(1, {rows}) AS n""",
    """INSERT INTO job_attempts (correlation_id, first_at, operation, pattern_name, queue, errors)
       SELECT gen_random_uuid(), now() - n * interval '1 second', 'insert', 'pattern ' || n, 'storage',
           jsonb_build_array(jsonb_build_object('at', now(), 'error_type', 'connection_lost', 'error', 'gone'))
       FROM generate_series(1, {rows}) AS n""",
    # These have begun.
    """INSERT INTO job_attempts (correlation_id, first_at, operation, queue)
       SELECT correlation_id, created_at, 'insert', 'storage' FROM outbox
       WHERE extract(epoch FROM created_at)::bigint % 5 = 0""",
    FILL["dead_letters"].replace("{start}", "0"),
    FILL["job_ledger"].replace("{start}", "0"),
    "VACUUM ANALYZE",
)
READY = "UPDATE pg_index SET indisready = %s, indisvalid = %s WHERE indexrelid = 'outbox_created_at'::regclass"


async def least(pid: int, call: Callable[[], Awaitable[object]]) -> float:
    """Return the milliseconds of CPU of the cheapest of three calls."""
    await call()
    found = []
    for _ in range(3):
        before = cpu(pid)
        await call()
        found.append((cpu(pid) - before) / 1e6)
    return min(found)


async def pages(connection: Connection, rows: int) -> dict[str, float]:
    """Return what each page takes."""
    pid = connection.info.backend_pid
    places = "SELECT died_at, correlation_id FROM dead_letters ORDER BY died_at OFFSET %s FETCH FIRST ROW ONLY"
    middle, last = [await (await connection.execute(places, [place])).fetchone() for place in (rows // 2, 20)]
    assert middle
    assert last
    everything, queued = JobFilter(), JobFilter(states=(ListedState.QUEUED,), pattern_name="nobody")
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "jobs: first page": lambda: jobs.list_jobs(connection, everything),
        "jobs: a page in the middle": lambda: jobs.list_jobs(connection, everything, after=Cursor(*middle)),
        "jobs: last page": lambda: jobs.list_jobs(connection, everything, after=Cursor(*last)),
        "jobs: oldest first": lambda: jobs.list_jobs(connection, everything, descending=False),
        "jobs: their number on the page": lambda: jobs.estimate(connection, everything, limit=10_000),
        "jobs: a name that none has": lambda: jobs.list_jobs(connection, JobFilter(pattern_name="nobody")),
        "jobs: a name that no waiting one has": lambda: jobs.list_jobs(connection, queued),
        "dead letters: first page": lambda: dead_letter_pages.page(connection, LetterFilter()),
        "dead letters: a reason that none has": lambda: dead_letter_pages.page(connection, LetterFilter(reason="none")),
        "dead letters: their number on the page": lambda: dead_letter_pages.estimate(
            connection, LetterFilter(), limit=10_000
        ),
    }
    return {name: await least(pid, call) for name, call in calls.items()}


async def outbox_cost(connection: Connection, many: int) -> list[float]:
    """Return the microseconds of CPU and the bytes of WAL of a job: written, published, removed."""
    pid, all_jobs = connection.info.backend_pid, [contract() for _ in range(JOBS)]

    async def wal() -> float:
        [(place,)] = await (await connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'")).fetchall()
        return float(place)

    steps = [all_jobs[first : first + many] for first in range(0, JOBS, many)]
    before, written = cpu(pid), await wal()
    for step in steps:
        ids = [job.correlation_id for job in step]
        async with connection.transaction():
            await outbox.add(connection, *step)
        await outbox.mark_published(connection, ids, delay=60)
        await connection.execute("DELETE FROM outbox WHERE correlation_id = ANY (%s)", [ids])
    return [(cpu(pid) - before) / 1000 / JOBS, (await wal() - written) / JOBS]


async def index_cost(connection: Connection) -> None:
    """Print what a job of the outbox costs with and without the index, in turn."""
    found: dict[tuple[bool, int], list[list[float]]] = {}
    for _ in range(ROUNDS):
        for ready in random.sample([True, False], 2):
            await connection.execute(READY, [ready, ready])
            await connection.execute("VACUUM outbox")
            await connection.execute("CHECKPOINT")
            for many in (1, 64):
                found.setdefault((ready, many), []).append(await outbox_cost(connection, many))
    for (ready, many), rounds in sorted(found.items()):
        cost, wal = (statistics.median(each) for each in zip(*rounds, strict=True))
        about = f"{many} to a transaction, {'with' if ready else 'without'} the index"
        print(f"{about:>40} {cost:8.1f} us {wal:8.0f} bytes of WAL", flush=True)


async def measure(url: str, rows: int) -> dict[str, float]:
    """Fill a database and return what each page takes."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in ROWS:
            await connection.execute(statement.format(rows=rows).encode())
        found = await pages(connection, rows)
        if rows == SIZES[1]:
            await index_cost(connection)
    return found


def main() -> None:
    """Run on a server of our own."""
    sizes = [int(text) for text in sys.argv[1:]] or list(SIZES)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            found = []
            for rows in sizes:
                url = on_database(server.url, create_database(server.url))
                schema.upgrade(url)
                found.append(asyncio.run(measure(url, rows)))
            print(f"{'ms of CPU in PostgreSQL':>40}", *(f"{rows:>10,}" for rows in sizes))
            for name in found[0]:
                print(f"{name:>40}", *(f"{each[name]:10.1f}" for each in found))


if __name__ == "__main__":
    main()
