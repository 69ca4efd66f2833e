"""Milliseconds from enqueue to result of one job behind 3,000 others, urgent and not: `python -m bench.urgent`."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal

from bench.peers.registry import OURS
from bench.peers.servers import running
from bench.peers.session import session
from pattern_storage import ModelContractPatternStorage, PatternColumns, PatternStorageClient

WAITING, ROUNDS, TIMEOUT = 3_000, 5, 120.0


def pattern(name: str) -> PatternColumns:
    """Return a pattern of this name."""
    return {"pattern_name": name, "pattern_type": "code", "language": "python", "template_code": "x = 1\n" * 40}


def measure(client: PatternStorageClient, name: str, priority: Literal["urgent", "normal"]) -> float:
    """Return the milliseconds of one job that was sent right after 3,000; then let these end."""
    jobs = client.submit_many(
        ModelContractPatternStorage(operation="insert", data=pattern(f"{name}-{number}")) for number in range(WAITING)
    )
    begun = time.perf_counter()
    result = client.insert(pattern(name), priority=priority).result(TIMEOUT)
    taken = time.perf_counter() - begun
    if not result.success:
        raise RuntimeError(result.error)
    for _ in client.results(jobs, TIMEOUT):
        pass
    return 1000 * taken


def main() -> None:
    """Print the median of the rounds, and the lowest and highest, with two worker processes."""
    taken: dict[Literal["urgent", "normal"], list[float]] = {"urgent": [], "normal": []}
    with (
        tempfile.TemporaryDirectory(prefix="pattern-storage-bench-") as name,
        running(Path(name)) as servers,
        session(OURS, servers, 2, Path(name)),
        PatternStorageClient(redis_url=servers.redis_url) as client,
    ):
        for number in range(ROUNDS):
            for priority, found in taken.items():
                found.append(measure(client, f"{priority}-{number}", priority))
    for priority, found in taken.items():
        print(f"{priority:8}{statistics.median(found):8.0f} ms   ({min(found):.0f} to {max(found):.0f})")


if __name__ == "__main__":
    main()
