"""Job lists: how long an operator's page takes PostgreSQL, by filter, at 1,000,000 ledger rows.

Seconds are CPU time of the PostgreSQL process that serves the connection, the most of several calls, with its caches
warm; other work on the machine does not change them. Before that, how long migration 0007 takes for so many old rows,
and what a row of the ledger costs before it and since.

    python -m bench.jobs [ROWS]      1000000 if left out; Linux only
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from psycopg.types.json import Json

from bench.growth_costs import cpu
from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, figures, jobs, ledger, schema
from pattern_storage.storage.delivery import Delivery, delivered
from pattern_storage.storage.fingerprint import name_request
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.vocabulary import ListedState

ROWS = 1_000_000
CALLS = 5
ROW_CALLS = 5_000

#: A job in fifty fails, one in two hundred is cancelled, one in a thousand is a delete; old rows, without columns.
FILL = """
INSERT INTO job_ledger (correlation_id, fingerprint, result, finished_at)
SELECT gen_random_uuid(), sha256(n::text::bytea), json_build_object(
        'success', n %% 50 <> 0 AND n %% 200 <> 1,
        'error', CASE WHEN n %% 50 = 0 THEN 'Pattern already exists: pattern ' || n END,
        'data', CASE WHEN n %% 50 <> 0 THEN json_build_object(
            'pattern_id', gen_random_uuid(), 'pattern_name', 'pattern ' || md5(n::text), 'created_at', now()) END,
        'metadata', json_build_object(
            'operation', CASE WHEN n %% 1000 = 7 THEN 'delete' WHEN n %% 10 = 3 THEN 'update' ELSE 'insert' END,
            'duration_ms', random() * 100, 'error_type', CASE WHEN n %% 5000 = 0 THEN 'statement_timeout'
                WHEN n %% 50 = 0 THEN 'unique_violation' WHEN n %% 200 = 1 THEN 'revoked' END,
            'request', encode(sha256(n::text::bytea), 'hex'))),
    now() - (%(rows)s - n) * interval '1 day' / 500000
FROM generate_series(1, %(rows)s) AS n
"""


def contract() -> ModelContractPatternStorage:
    """Return a contract as jobs have it."""
    data = {"pattern_name": f"pattern {uuid4().hex}", "pattern_type": "function", "language": "python"}
    return ModelContractPatternStorage(operation="insert", data=data | {"template_code": "x" * 300})


async def longest(pid: int, call: Callable[[], Awaitable[object]]) -> float:
    """Return the milliseconds of CPU of the most expensive of several calls."""
    await call()
    found = []
    for _ in range(CALLS):
        before = cpu(pid)
        await call()
        found.append((cpu(pid) - before) / 1e6)
    return max(found)


async def measure(url: str, rows: int) -> None:
    """Print what each page, count and plot takes."""
    now = datetime.now(UTC)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        pid = connection.info.backend_pid
        [(job, name)] = await (
            await connection.execute("SELECT correlation_id, pattern_name FROM job_ledger OFFSET 5000 LIMIT 1")
        ).fetchall()
        everything = JobFilter()
        filters = {
            "everything": everything,
            "id": JobFilter(correlation_id=job),
            "name": JobFilter(pattern_name=name),
            "no such name": JobFilter(pattern_name="nobody"),
            "operation, common": JobFilter(operation="insert"),
            "operation, rare": JobFilter(operation="delete"),
            "operation, none": JobFilter(operation="batch_insert"),
            "failed": JobFilter(states=(ListedState.FAILURE,)),
            "cancelled": JobFilter(states=(ListedState.REVOKED,)),
            "dead": JobFilter(states=(ListedState.DEAD,)),
            "error type, rare": JobFilter(error_type="statement_timeout"),
            "error type, none": JobFilter(error_type="deadlock"),
            "succeeded deletes": JobFilter(states=(ListedState.SUCCESS,), operation="delete"),
            "failed deletes": JobFilter(states=(ListedState.FAILURE,), operation="delete"),
            "an hour, a day ago": JobFilter(since=now - timedelta(hours=25), until=now - timedelta(hours=24)),
            "queue, none": JobFilter(queue="imports"),
        }
        print(f"{'ms of CPU in PostgreSQL':>30} {'page':>8} {'later':>8} {'count':>8} {'slowest':>8}")
        for about, wanted in filters.items():
            first = await jobs.list_jobs(connection, wanted)
            after = (await jobs.list_jobs(connection, wanted, limit=1_000)).next or first.next
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda w=wanted: jobs.list_jobs(connection, w),  # type: ignore[misc]
                lambda w=wanted, a=after: jobs.list_jobs(connection, w, after=a),  # type: ignore[misc]
                lambda w=wanted: jobs.count_jobs(connection, w),  # type: ignore[misc]
                lambda w=wanted: jobs.list_jobs(connection, w, sort="duration"),  # type: ignore[misc]
            ]
            print(f"{about:>30}", *[f"{await longest(pid, call):8.1f}" for call in calls], flush=True)
        for about, (seconds, spans) in {"hour": figures.HOUR, "day": figures.DAY}.items():
            took = await longest(pid, lambda s=seconds, n=spans: figures.rates(connection, seconds=s, spans=n))  # type: ignore[misc]
            more = await longest(pid, lambda s=seconds, n=spans: figures.quantiles(connection, seconds=s * n))  # type: ignore[misc]
            print(f"{'plots of the last ' + about:>30} {took:8.1f} {'quantiles':>8} {more:8.1f}", flush=True)


OLD_ROW = """
WITH delivered AS (DELETE FROM job_attempts WHERE correlation_id = %(correlation_id)s),
     published AS (DELETE FROM outbox WHERE correlation_id = %(correlation_id)s),
     dead AS (DELETE FROM dead_letters WHERE correlation_id = %(correlation_id)s)
INSERT INTO job_ledger (correlation_id, fingerprint, result)
VALUES (%(correlation_id)s, %(fingerprint)s, %(result)s)
"""


async def row_cost(url: str, *, old: bool) -> float:
    """Return the microseconds of CPU that a row of the ledger costs PostgreSQL, as recorded before and since 0007."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        pid = connection.info.backend_pid

        async def record() -> None:
            asked = contract()
            result = result_of(asked.correlation_id)
            if not old:
                with delivered({asked.correlation_id: Delivery("storage", "celery@worker-1", time.time())}):
                    await ledger.record(connection, asked, result)
                return
            request = name_request(result, asked)
            values = {"correlation_id": asked.correlation_id, "fingerprint": request, "result": Json(result.to_dict())}
            await connection.execute(OLD_ROW, values)

        for _ in range(ROW_CALLS // 10):
            await record()
        before = cpu(pid)
        for _ in range(ROW_CALLS):
            await record()
        return (cpu(pid) - before) / ROW_CALLS / 1000


def result_of(job: UUID) -> ModelResult:
    """Return the result of an insert."""
    data = {"pattern_id": str(uuid4()), "pattern_name": f"pattern {uuid4().hex}", "created_at": "2026-01-01T00:00:00Z"}
    return ModelResult(
        success=True,
        data=data,
        metadata={"correlation_id": str(job), "operation": "insert", "duration_ms": random.random() * 100},
    )


def main() -> None:
    """Run on a server of our own."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            schema.upgrade(server.url, "pattern_storage_0006")
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute(FILL, {"rows": rows})
                connection.execute("VACUUM ANALYZE job_ledger")
            print(f"ledger row before: {asyncio.run(row_cost(server.url, old=True)):.1f} us of CPU", flush=True)
            started = time.monotonic()
            schema.upgrade(server.url)
            print(f"migration of {rows:,} rows: {time.monotonic() - started:.0f} s", flush=True)
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
                sizes = connection.execute(
                    "SELECT indexrelid::regclass::text, pg_size_pretty(pg_relation_size(indexrelid)) FROM pg_index"
                    " WHERE indrelid = 'job_ledger'::regclass"
                ).fetchall()
                print(*(f"{name} {size}" for name, size in sizes), sep="\n")
            print(f"ledger row since: {asyncio.run(row_cost(server.url, old=False)):.1f} us of CPU", flush=True)
            asyncio.run(measure(server.url, rows))


if __name__ == "__main__":
    main()
