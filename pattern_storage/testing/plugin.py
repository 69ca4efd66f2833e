"""Plugin of pytest, found by the entry point `pytest11`: fixtures. It imports nothing until a test uses one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pattern_storage.testing.inline_mode import InlineMode
    from pattern_storage.testing.recorded_mode import RecordedMode
    from pattern_storage.testing.servers import TestServers
    from pattern_storage.testing.worker import ThreadWorker


@pytest.fixture(scope="session")
def pattern_storage_servers() -> "Iterator[TestServers]":
    """PostgreSQL and Valkey of this test process; each starts when it is first used."""
    from pattern_storage.testing.servers import shared_servers

    servers = shared_servers()
    yield servers
    servers.close()


@pytest.fixture
def pattern_storage_database(pattern_storage_servers: "TestServers", monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a migrated database for this test alone, without rows; DATABASE_URL is set to it."""
    url = pattern_storage_servers.create_database()
    monkeypatch.setenv("DATABASE_URL", url)
    yield url
    pattern_storage_servers.drop_database(url)


@pytest.fixture
def pattern_storage_redis(pattern_storage_servers: "TestServers", monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty Redis database; REDIS_URL is set to it. No worker takes its jobs."""
    url = pattern_storage_servers.empty_redis()
    monkeypatch.setenv("REDIS_URL", url)
    return url


@pytest.fixture
def recorded_jobs() -> "Iterator[RecordedMode]":
    """Recorded mode: jobs are checked and logged, nothing is sent, no server is needed."""
    from pattern_storage.testing.recorded_mode import recorded

    with recorded() as mode:
        yield mode


@pytest.fixture
def inline_jobs(pattern_storage_database: str) -> "Iterator[InlineMode]":
    """Inline mode: jobs are executed at once in `pattern_storage_database`, without a queue."""
    from pattern_storage.testing.inline_mode import inline

    with inline(pattern_storage_database) as mode:
        yield mode


@pytest.fixture(scope="session")
def _pattern_storage_worker(pattern_storage_servers: "TestServers") -> "Iterator[ThreadWorker]":
    from pattern_storage.testing.worker import start_worker

    servers = pattern_storage_servers
    with start_worker(servers.create_database(), servers.empty_redis(worker=True)) as worker:
        yield worker


@pytest.fixture
def pattern_storage_worker(_pattern_storage_worker: "ThreadWorker", monkeypatch: pytest.MonkeyPatch) -> "ThreadWorker":
    """A real worker in a thread; DATABASE_URL and REDIS_URL are set to its servers.

    Our tables and its queues are empty. Tables of your own keep their rows between tests.
    """
    _pattern_storage_worker.reset()
    monkeypatch.setenv("DATABASE_URL", _pattern_storage_worker.database_url)
    monkeypatch.setenv("REDIS_URL", _pattern_storage_worker.redis_url)
    return _pattern_storage_worker
