"""Atomic batches of ours, all in the queue and one at a time, beside a raw COPY of the very same rows."""

import json
import time
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

from bench.peers.environment import variables
from bench.peers.processes import Workers
from bench.peers.registry import OURS
from bench.peers.results import Results
from bench.peers.servers import Servers
from pattern_storage import ModelContractPatternStorage, PatternStorageClient

SIZES = (10, 100, 1_000, 10_000)
#: Rows that each size stores, in so many batches at least and at most.
ROWS = 20_000
FEWEST, MOST = 4, 200
#: Batches of each size that go alone, one after the other, at most and at least.
ALONE, LEAST_ALONE = 20, 3
TIMEOUT = 120.0


def batches(servers: Servers, folder: Path, results: Results, sizes: Iterable[int] = SIZES, rows: int = ROWS) -> None:
    """Enter one round of each size."""
    environment = variables(servers.database_url, servers.redis_url)
    patterns = endless(servers.patterns)
    servers.empty()
    with (
        PatternStorageClient(database_url=servers.database_url, redis_url=servers.redis_url) as client,
        Workers(OURS, 2, environment, folder / "batches.log") as workers,
    ):
        workers.wait_idle()
        for size in sizes:
            for _ in range(4):  # connections, prepared statements
                _one(client, list(islice(patterns, 10)))
            lonely = max(LEAST_ALONE, min(ALONE, rows // size))
            alone = [_one(client, list(islice(patterns, size))) for _ in range(lonely)]
            servers.empty()
            number = max(FEWEST, min(MOST, rows // size))
            rate = _drain(client, workers, servers, [list(islice(patterns, size)) for _ in range(number)])
            copied = _copy(servers, size)
            measured = {"rows_per_second": rate, "copy_rows_per_second": copied, "of_copy": rate / copied}
            results.add(f"{size:,}", measured | {"batch_ms": alone})


def endless(file: Path) -> Iterator[dict[str, Any]]:
    """Yield patterns, each name once."""
    harvested = [json.loads(line) for line in file.read_text().splitlines()]
    for turn in count():
        for one in harvested:
            yield one | {"pattern_name": f"{one['pattern_name'][:200]} {turn}"}


def _one(client: PatternStorageClient, patterns: list[Any]) -> float:
    """Return the milliseconds from enqueue to result of one batch."""
    begun = time.perf_counter()
    result = client.batch_insert(patterns).result(timeout=TIMEOUT)
    if not result.success:
        raise RuntimeError(f"a batch failed: {result.error}")
    return 1000 * (time.perf_counter() - begun)


def _drain(client: PatternStorageClient, workers: Workers, servers: Servers, wanted: list[list[Any]]) -> float:
    """Return rows a second of two workers that find these batches in the queue."""
    workers.pause()
    jobs = client.submit_many(
        ModelContractPatternStorage(operation="batch_insert", patterns=patterns) for patterns in wanted
    )
    begun = time.perf_counter()
    workers.resume()
    for job in jobs:
        if not job.result(timeout=TIMEOUT).success:
            raise RuntimeError("a batch failed")
    return sum(map(len, wanted)) / (time.perf_counter() - begun)


def _copy(servers: Servers, size: int) -> float:
    """Return rows a second of the rows that are there, copied again over one connection, a batch a transaction."""
    with servers.sql.cursor() as cursor, cursor.copy("COPY pattern_templates TO STDOUT") as out:
        lines = b"".join(map(bytes, out)).splitlines(keepends=True)
    servers.empty()
    begun = time.perf_counter()
    for first in range(0, len(lines), size):
        with (
            servers.sql.transaction(),
            servers.sql.cursor() as cursor,
            cursor.copy("COPY pattern_templates FROM STDIN") as copy,
        ):
            copy.write(b"".join(lines[first : first + size]))
    return len(lines) / (time.perf_counter() - begun)
