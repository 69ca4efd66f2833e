"""Growth: what each part of the storage costs at 1,000, 100,000 and 1,000,000 rows, and what jobs leave in Redis.

CPU time of the PostgreSQL process that serves the connection, in microseconds a call: other work on the machine does
not change it. Rows are made by the server. Then 20,000 jobs go through a worker, and what each leaves in Redis is
counted: keys and bytes are the same for every job, so a million leave fifty times as much.

    python -m bench.growth [ROWS ...]      1000 100000 1000000 if left out; Linux only
"""

import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import redis
from psycopg import AsyncConnection

from bench.growth_rows import FILL
from pattern_storage import ModelContractPatternStorage, PatternStorageClient
from pattern_storage.embedded import EmbeddedPostgres, EmbeddedStack
from pattern_storage.storage import (
    ModelResult,
    NodePatternStorageEffect,
    dead_letters,
    import_runs,
    ledger,
    outbox,
    schema,
)
from pattern_storage.storage.pool import create_pool
from tests.fix_process import clean_environment

SIZES = (1_000, 100_000, 1_000_000)
CALLS = 200
STEP = 100
JOBS = 20_000

Call = Callable[[], Awaitable[object]]


def cpu(pid: int) -> int:
    """Return the nanoseconds that a process has spent on a CPU."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0])


async def cost(pid: int, call: Call, calls: int = CALLS) -> float:
    """Return the microseconds of CPU that a call costs the server process, the first few left out."""
    for _ in range(max(1, calls // 10)):
        await call()
    before = cpu(pid)
    for _ in range(calls):
        await call()
    return (cpu(pid) - before) / calls / 1000


async def costs(url: str) -> AsyncIterator[tuple[str, float]]:
    """Yield the name and the cost of each thing that is done again and again."""
    async with create_pool(url, min_size=1, max_size=1) as pool:
        node = NodePatternStorageEffect(pool)
        async with pool.connection() as connection:
            pid = connection.info.backend_pid

        async def execute(operation: str, **fields: Any) -> None:
            result = await node.execute_once(ModelContractPatternStorage(operation=operation, **fields))
            assert result.success, result.error

        async def insert(prefix: str = "") -> None:
            name = prefix + uuid4().hex
            await execute("insert", data={
                "pattern_name": name, "pattern_type": "function", "language": "python", "category": "category 7",
                "template_code": name * 10, "tags": ["tag 7"], "context": {"module": name},
            })  # fmt: skip

        # So many that the pending entries of the trigram index are merged once at every size.
        yield "insert, with its ledger row", await cost(pid, insert, 25 * CALLS)
        await insert("needle ")
        async with pool.connection() as connection:
            # As autovacuum does: what is pending is read by each query, 4 MB at most at any size of the table.
            await connection.execute("SELECT gin_clean_pending_list('pattern_templates_name_trigrams')")
        for name, params in (
            ("query: newest page", {}),
            ("query: page of a category", {"category": "category 7"}),
            ("query: part of a name", {"name_contains": "needle"}),
            # Each three letters of it are in every 65th name.
            ("query: frequent parts of names", {"name_contains": "9f8e7d"}),
        ):
            yield name, await cost(pid, lambda params=params: execute("query", query_params=params))  # type: ignore[misc]
        async with pool.connection() as connection:
            async for each in bookkeeping(connection, pid):
                yield each


async def bookkeeping(connection: AsyncConnection, pid: int) -> AsyncIterator[tuple[str, float]]:
    """Yield what ledger, outbox, dead letters and history cost."""
    result = ModelResult(success=True, data={"x": "x" * 200}, metadata={})
    yield (
        "ledger row",
        await cost(pid, lambda: ledger.record_result(connection, uuid4(), b"x" * 32, result, "x"), 5 * CALLS),
    )
    yield (
        "ledger purge, a row",
        await cost(pid, lambda: ledger.purge(connection, days=30, step=STEP), 4) / STEP,
    )
    yield "relay poll", await cost(pid, lambda: outbox.next_publication(connection))
    yield "claim that finds nothing", await cost(pid, lambda: outbox.claim(connection))
    job: dict[str, Any] = {"operation": "delete", "pattern_id": str(uuid4())}

    async def pass_through() -> None:
        asked = ModelContractPatternStorage(**job)
        async with connection.transaction():
            await outbox.add(connection, asked)
        async with connection.transaction():
            await outbox.claim(connection)
            await outbox.mark_published(connection, [asked.correlation_id], delay=60)
        await outbox.remove(connection, [asked.correlation_id])

    yield "outbox row, from start to end", await cost(pid, pass_through)
    pages = await dead_letters.page(connection, limit=500)
    yield "dead letters, a page", await cost(pid, lambda: dead_letters.page(connection, limit=50))
    yield (
        "dead letters, a later page",
        await cost(pid, lambda: dead_letters.page(connection, after=pages[-1], limit=50)),
    )
    letters = await dead_letters.count(connection)
    yield (
        "dead letters of ended jobs, a letter",
        await cost(pid, lambda: dead_letters.purge_finished(connection, days=30), 3) / letters,
    )
    yield (
        "history, newest of one import",
        await cost(pid, lambda: import_runs.history(connection, "import 7", limit=20)),
    )
    yield (
        "history purge, a row",
        await cost(pid, lambda: import_runs.purge(connection, days=0, step=STEP), 2) / STEP,
    )


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

        asyncio.run(collect())
        print(f"# {rows:,} rows measured", file=sys.stderr, flush=True)
    print(f"{'microseconds of CPU in PostgreSQL':>36}", *(f"{rows:>12,}" for rows in sizes), "   ratio")
    for name, found in table.items():
        print(f"{name:>36}", *(f"{each:>12,.1f}" for each in found), f"{found[-1] / found[0]:>8.2f}")


def leftovers(folder: Path) -> None:
    """Send jobs through a worker and print what they leave in Redis."""
    with EmbeddedStack(folder / "data") as stack:
        schema.upgrade(stack.database_url)
        environment = clean_environment(DATABASE_URL=stack.database_url, REDIS_URL=stack.redis_url)
        command = [sys.executable, "-m", "celery", "-A", "pattern_storage", "worker", "--concurrency", "2"]
        with (folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            with (
                PatternStorageClient(redis_url=stack.redis_url) as client,
                redis.Redis.from_url(stack.redis_url) as server,
            ):

                def insert(count: int) -> None:
                    contracts = [
                        ModelContractPatternStorage(
                            operation="insert",
                            data={
                                "pattern_name": uuid4().hex, "pattern_type": "function", "language": "python",
                                "template_code": "def f():\n    return 1\n" * 10,
                            },
                        )
                        for _ in range(count)
                    ]  # fmt: skip
                    for job in client.submit_many(contracts):
                        assert job.result(timeout=300).success

                insert(100)
                before, memory = kinds(server), server.info("memory")["used_memory"]
                for _ in range(JOBS // 1_000):
                    insert(1_000)
                grown = server.info("memory")["used_memory"] - memory
                print(f"\nRedis after {JOBS:,} jobs: {grown / JOBS:,.0f} bytes a job, keys a job:")
                for kind, number in (kinds(server) - before).items():
                    print(f"{kind:>36} {number / JOBS:.4f}")
        finally:
            worker.terminate()
            worker.wait()


def kinds(server: "redis.Redis") -> Counter[str]:
    """Return how many keys there are, by name without ids, and whether they expire."""
    found: Counter[str] = Counter()
    for key in server.scan_iter(count=10_000):
        name = key.decode()
        kind = name[:-36] if name.count("-") >= 4 and len(name) > 36 else name
        found[f"{kind} ({'expires' if server.ttl(key) >= 0 else 'for good'})"] += 1
    return found


def main() -> None:
    """Run on servers of our own."""
    sizes = [int(each) for each in sys.argv[1:]] or list(SIZES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with EmbeddedPostgres(folder / "postgres") as server:
            schema.upgrade(server.url)
            measure(server.url, sizes)
        leftovers(folder)


if __name__ == "__main__":
    main()
