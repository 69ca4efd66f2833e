"""Memory and keys of Redis after 1,000,000 jobs, and the memory of the worker that executed them."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import psutil
import redis

from pattern_storage import ModelContractPatternStorage, PatternStorageClient
from pattern_storage.embedded import EmbeddedStack
from pattern_storage.storage import schema
from tests.fix_process import clean_environment

JOBS = 1_000_000
#: Jobs that are submitted at once.
MANY = 10_000
#: What Redis says of a key that has expired meanwhile.
GONE = -2


def measure(folder: Path, jobs: int) -> None:
    """Send jobs through a worker and print what they leave in Redis, and the memory of the worker before and after."""
    with EmbeddedStack(folder / "data") as stack:
        schema.upgrade(stack.database_url)
        environment = clean_environment(DATABASE_URL=stack.database_url, REDIS_URL=stack.redis_url)
        command = [sys.executable, "-m", "celery", "-A", "pattern_storage", "worker", "--concurrency", "2"]
        with (folder / "worker.log").open("ab") as log:
            worker = psutil.Popen(
                [*command, "--loglevel", "WARNING"], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            with (
                PatternStorageClient(redis_url=stack.redis_url) as client,
                redis.Redis.from_url(stack.redis_url) as server,
            ):
                insert(client, MANY)
                before, memory, worker_before = kinds(server), used(server), worker_mib(worker)
                started = time.monotonic()
                for _ in range(jobs // MANY):
                    insert(client, MANY)
                print(f"\n{jobs:,} jobs in {time.monotonic() - started:,.0f} s; the worker's memory before and after:")
                print(f"{worker_before:.0f} and {worker_mib(worker):.0f} MiB")
                print(f"Redis: {(used(server) - memory) / jobs:,.0f} bytes a job, keys a job:")
                for kind, number in (kinds(server) - before).items():
                    print(f"{kind:>36} {number / jobs:.6f}")
        finally:
            worker.terminate()
            worker.wait()


def insert(client: PatternStorageClient, count: int) -> None:
    """Submit so many inserts and wait for the last ones."""
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
    jobs = client.submit_many(contracts)
    for _, result in client.results(jobs, timeout=300):
        assert result.success


def used(server: "redis.Redis") -> int:
    """Return the bytes of Redis' data."""
    return int(server.info("memory")["used_memory"])


def worker_mib(worker: psutil.Process) -> float:
    """Return the memory of a worker's processes; what they share counts once."""
    processes = [worker, *worker.children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in processes)) / 2**20


def kinds(server: "redis.Redis") -> Counter[str]:
    """Return how many keys there are, by name without ids, and whether they expire."""
    found: Counter[str] = Counter()
    keys = list(server.scan_iter(count=10_000))
    for first in range(0, len(keys), 10_000):
        step = keys[first : first + 10_000]
        with server.pipeline(transaction=False) as pipeline:
            for key in step:
                pipeline.ttl(key)
            for key, ttl in zip(step, pipeline.execute(), strict=True):
                name = key.decode()
                kind = name[:-36] if name.count("-") >= 4 and len(name) > 36 else name
                if ttl == GONE:
                    continue
                found[f"{kind} ({'expires' if ttl >= 0 else 'for good'})"] += 1
    return found
