"""The latency budgets of the original pattern storage layer, measured: exits 1 if one is exceeded.

Validation of a contract under 1 ms, a single operation under 50 ms, a batch of ten under 100 ms; here at the 95th
percentile, on the effect node, with a PostgreSQL that syncs every commit to its disk.

    python -m bench.latency_budgets [DATABASE_URL]      without a URL: an embedded PostgreSQL in a temporary folder
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.extract import harvest, standard_library
from pattern_storage.storage import ModelContractPatternStorage, NodePatternStorageEffect, schema
from pattern_storage.storage.operations import check
from pattern_storage.storage.pool import create_pool

#: Budgets of the 95th percentile, in milliseconds.
VALIDATION, SINGLE, BATCH = 1.0, 50.0, 100.0
ROUNDS = 300
BATCH_SIZE = 10

Measured = tuple[str, list[float], float]


def new_data() -> Any:
    """Return an endless supply of real patterns, none twice."""
    for number, pattern in enumerate(cycle(list(islice(harvest(standard_library()), 1_000)))):
        yield pattern | {"pattern_name": f"{pattern['pattern_name'][:200]} {number}"}


def validation(data: Any) -> Measured:
    """Build and check the contract of an insert, as the client and the worker each do."""
    times = []
    for pattern in islice(data, 10 * ROUNDS):
        started = time.perf_counter()
        check(ModelContractPatternStorage(operation="insert", data=pattern))
        times.append((time.perf_counter() - started) * 1000)
    return "contract validation", times, VALIDATION


async def operations(url: str, data: Any) -> AsyncIterator[Measured]:
    """Execute each operation again and again, one at a time."""
    async with create_pool(url) as pool:
        node = NodePatternStorageEffect(pool)

        async def execute(times: list[float], operation: str, **fields: Any) -> Any:
            contract = ModelContractPatternStorage(operation=operation, **fields)
            started = time.perf_counter()
            result = await node.execute_once(contract)
            times.append((time.perf_counter() - started) * 1000)
            if not result.success:
                raise SystemExit(f"{operation} failed: {result.error}")
            return result.data

        times: dict[str, list[float]] = {name: [] for name in ("insert", "query", "update", "delete", "batch_insert")}
        for pattern in islice(data, ROUNDS):
            stored = await execute(times["insert"], "insert", data=pattern)
            await execute(times["query"], "query", query_params={"pattern_name": pattern["pattern_name"]})
            await execute(times["update"], "update", pattern_id=stored["pattern_id"], data={"usage_count": 1})
            await execute(times["delete"], "delete", pattern_id=stored["pattern_id"])
            await execute(times["batch_insert"], "batch_insert", patterns=list(islice(data, BATCH_SIZE)))
        for name, taken in times.items():
            batch = name == "batch_insert"
            yield f"{name} of {BATCH_SIZE}" if batch else name, taken, BATCH if batch else SINGLE


async def measure(url: str) -> bool:
    """Print a table and return whether every budget was kept."""
    data = new_data()
    kept = True
    print(f"{'':>20} {'median':>10} {'p95':>10} {'budget':>10}")
    measured = [validation(data), *[each async for each in operations(url, data)]]
    for name, times, budget in measured:
        slow = statistics.quantiles(times, n=20)[-1]
        kept &= slow < budget
        print(f"{name:>20} {statistics.median(times):>7.3f} ms {slow:>7.3f} ms {budget:>7.0f} ms"
              f"{'' if slow < budget else '  EXCEEDED'}")  # fmt: skip
    return kept


def main() -> int:
    """Run against the given URL, or against a server of our own; return the exit code."""
    if len(sys.argv) > 1:
        schema.upgrade(sys.argv[1])
        return not asyncio.run(measure(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "postgres") as server:
            schema.upgrade(server.url)
            return not asyncio.run(measure(server.url))


if __name__ == "__main__":
    sys.exit(main())
