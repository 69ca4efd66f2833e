"""A whole system as `pattern-storage up` runs it, with jobs of every kind on real patterns."""

import asyncio
import heapq
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pattern_storage.extract import harvest
from pattern_storage.tasks.client import Job, PatternStorageClient
from tests.fix_cli import make_home
from tests.fix_process import free_port
from tests.fix_storage import contract
from tests.fix_up import Up

#: A job that has to wait for a lock is retried at once, and then after a while that is longer than the tests.
PATIENCE: dict[str, Any] = {
    "PATTERN_STORAGE_LOCK_TIMEOUT": "0.2",
    "PATTERN_STORAGE_RETRY_BACKOFF": "500",
    "PATTERN_STORAGE_RETRY_BACKOFF_MAX": "500",
    "PATTERN_STORAGE_MAX_ATTEMPTS": "1000",
}
COLUMNS = "pattern_name, pattern_type, language, template_code"


@dataclass(frozen=True)
class System:
    """A running system and the correlation ids of the jobs in it."""

    up: Up
    pattern: dict[str, Any]
    stored: UUID
    failed: UUID
    retried: UUID
    revoked: UUID

    @property
    def address(self) -> str:
        """Where Flower is, with user and password, as `up` has printed it."""
        return str(self.up.state.values["flower_url"])


def harvested() -> list[Any]:
    """Return some hundred patterns of the standard library, the ones with the best-known names first."""
    wanted = ("asyncio.tasks.gather", "asyncio.tasks.wait_for", "asyncio.locks.Semaphore", "asyncio.queues.Queue.get")
    found = list(harvest(Path(asyncio.__file__).parent))
    first = {pattern["pattern_name"]: pattern for pattern in found if pattern["pattern_name"] in wanted}
    return [*first.values(), *(pattern for pattern in found if pattern["pattern_name"] not in first)]


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """The system, with a transaction left open that one job waits for."""
    home = make_home()
    up = Up(home / "data", "--concurrency", "2", "--flower-port", str(free_port()), flower=True, **PATIENCE)
    try:
        up.ready()
        state = up.state
        with (
            PatternStorageClient(redis_url=state.redis_url, database_url=state.database_url) as client,
            psycopg.connect(state.database_url) as open_transaction,
        ):
            yield System(up, *submit_all(client, open_transaction))
    finally:
        up.end()
        shutil.rmtree(home)


def submit_all(client: PatternStorageClient, open_transaction: psycopg.Connection) -> tuple[Any, ...]:
    """Do jobs of every operation and with every end; return one of each kind."""
    patterns = harvested()

    def done(job: Job) -> UUID:
        job.result(timeout=60)
        return job.correlation_id

    heap = [done(client.insert(pattern)) for pattern in harvest(Path(heapq.__file__))]
    done(client.batch_insert(patterns[10:]))
    stored = [client.insert(pattern) for pattern in patterns[:3]]
    pattern_id = stored[0].result(timeout=60).data["pattern_id"]
    done(client.update(pattern_id, {"confidence_score": 0.95, "usage_count": 3}))
    done(client.query(tags_all=["async"], limit=20))
    failed = done(client.insert(patterns[1]))
    done(client.delete(client.get(heap[0]).result(timeout=60).data["pattern_id"]))
    never = contract("insert", data=patterns[4])
    client.get(never.correlation_id).cancel()
    revoked = done(client.submit(never))
    done(client.query(name_contains="heapq", order_by="pattern_name", descending=False))

    busy = patterns[3]
    values = [busy[name] for name in COLUMNS.split(", ")]
    open_transaction.execute(f"INSERT INTO pattern_templates ({COLUMNS}) VALUES (%s, %s, %s, %s)", values)
    retried = client.insert(busy).correlation_id
    return patterns[1], stored[1].correlation_id, failed, retried, revoked
