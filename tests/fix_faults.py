"""Workers to be killed, on servers that can be stopped, and the settings with which jobs come back soon."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pattern_storage.embedded import EmbeddedPostgres, EmbeddedValkey
from pattern_storage.storage import schema
from tests.fix_celery import StorageWorker, launch_worker
from tests.fix_servers import create_database, drop_database, on_database

#: What a dead worker held comes back after nine seconds, and nobody waits long for anything. Celery notices a dead
#: process of its pool after five seconds at worst; a lower time limit would strike first.
SOON = {
    "PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "7",
    "PATTERN_STORAGE_TASK_TIME_LIMIT": "8",
    "PATTERN_STORAGE_VISIBILITY_TIMEOUT": "9",
    "PATTERN_STORAGE_RETRY_BACKOFF": "1",
    "PATTERN_STORAGE_RETRY_BACKOFF_MAX": "1",
    "PATTERN_STORAGE_POOL_TIMEOUT": "1",
    "PATTERN_STORAGE_CONNECT_TIMEOUT": "1",
}

#: After four seconds: for workers that die as a whole.
AT_ONCE = SOON | {
    "PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "2",
    "PATTERN_STORAGE_TASK_TIME_LIMIT": "3",
    "PATTERN_STORAGE_VISIBILITY_TIMEOUT": "4",
}

#: kombu's own transport loses what it has popped and not yet recorded when the whole worker dies (field-notes.md).
STOCK = {"PATTERN_STORAGE_SAFE_TRANSPORT": "false"}
SAFE = {"PATTERN_STORAGE_SAFE_TRANSPORT": "true"}

#: Whether workers execute jobs in groups: `make test-faults-alone` runs some modules once more without.
GROUPS = os.environ.get("TEST_GROUP_EXECUTION", "1") != "0"
needs_groups = pytest.mark.skipif(not GROUPS, reason="a part of group execution, which this run has turned off")


def crash(worker: StorageWorker) -> None:
    """Kill a worker and its children, all at once."""
    worker.container.group.kill(signal.SIGKILL)


def start_again(worker: StorageWorker) -> None:
    worker.container.group.restart()
    worker.container._wait_ready()


Launch = Callable[..., StorageWorker]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start a worker on any servers: `launch(database_url, redis_url, env=...)`."""
    started: list[StorageWorker] = []

    def start(database_url: str, redis_url: str, *options: str, **arguments: Any) -> StorageWorker:
        started.append(
            launch_worker(
                database_url, redis_url, tmp_path / f"worker-{len(started)}.log",
                options=("--without-mingle", "--without-gossip", *options), **arguments,
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for worker in started:
        # An orderly end takes seconds, and is another test's subject.
        crash(worker)
        worker.stop()


@pytest.fixture(scope="module")
def mortal_postgres(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL to kill: what it has confirmed is on disk."""
    with EmbeddedPostgres(server_directory / f"mortal-{uuid4().hex[:8]}", durable=True) as server:
        yield server


@pytest.fixture(scope="module")
def mortal_template(mortal_postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database on it."""
    name = create_database(mortal_postgres.url)
    schema.upgrade(on_database(mortal_postgres.url, name))
    return name


@pytest.fixture
def mortal_database(mortal_postgres: EmbeddedPostgres, mortal_template: str) -> Iterator[str]:
    """A migrated database on a PostgreSQL to kill."""
    mortal_postgres.start()
    name = create_database(mortal_postgres.url, mortal_template)
    yield on_database(mortal_postgres.url, name)
    mortal_postgres.start()
    drop_database(mortal_postgres.url, name)


@pytest.fixture
def mortal_valkey(server_directory: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey to kill, which appends every write to a file."""
    with EmbeddedValkey(server_directory / f"mortal-{uuid4().hex[:8]}", durable=True) as server:
        yield server
