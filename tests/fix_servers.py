"""Real servers: embedded ones that live as long as the test process, or those of DATABASE_URL and REDIS_URL.

Every pytest-xdist worker is a process of its own and so has servers of its own. On servers that were given, workers
keep apart by database: names of their own in PostgreSQL, numbers of their own in Redis.
"""

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from pattern_storage.embedded import EmbeddedPostgres, EmbeddedValkey
from pattern_storage.storage import schema
from pattern_storage.testing.databases import create_database, drop_database, on_database

Store = redis.Redis

__all__ = ["WORKER", "create_database", "drop_database", "on_database"]

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """A folder for servers. pytest's own are 0700, and PostgreSQL, which refuses root, runs as `nobody`."""
    path = Path(tempfile.mkdtemp(prefix=f"pattern-storage-{WORKER}-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """The embedded PostgreSQL, for tests that stop or kill it; skips them where DATABASE_URL names another's."""
    if "DATABASE_URL" in os.environ:
        pytest.skip("DATABASE_URL is set: this test needs a server of its own")
    with EmbeddedPostgres(server_directory / "postgres", durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """Where databases can be created: DATABASE_URL, or the embedded server."""
    if url := os.environ.get("DATABASE_URL"):
        return url
    server: EmbeddedPostgres = request.getfixturevalue("postgres")
    return server.url


@pytest.fixture(scope="session")
def valkey(server_directory: Path) -> Iterator[EmbeddedValkey]:
    """The embedded Valkey, for tests that stop or kill it; skips them where REDIS_URL names another's."""
    if "REDIS_URL" in os.environ:
        pytest.skip("REDIS_URL is set: this test needs a server of its own")
    with EmbeddedValkey(server_directory / "valkey", durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_url(request: pytest.FixtureRequest) -> str:
    """A Redis database of this worker's own: on REDIS_URL the one of the worker's number."""
    if url := os.environ.get("REDIS_URL"):
        return on_database(url, WORKER.removeprefix("gw"))
    server: EmbeddedValkey = request.getfixturevalue("valkey")
    return server.url


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    """An empty Redis database."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushdb()
    return valkey_url


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """A client of this test's Redis, beside those of the code under test."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def messages_on(store: Store, queue: str = "storage") -> list[dict[str, Any]]:
    """Return the messages of a queue, the next one first."""
    return [json.loads(message) for message in reversed(store.lrange(queue, 0, -1))]


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database without rows; nobody may stay connected to it."""
    name = create_database(postgres_url)
    schema.upgrade(on_database(postgres_url, name))
    yield name
    drop_database(postgres_url, name)


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A migrated database without rows, this test's own."""
    name = create_database(postgres_url, template_database)
    yield on_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture(scope="module")
def shared_database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A migrated database that the tests of a module share."""
    name = create_database(postgres_url, template_database)
    yield on_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A database without any table, this test's own."""
    name = create_database(postgres_url)
    yield on_database(postgres_url, name)
    drop_database(postgres_url, name)


@pytest.fixture
def lone_valkey(server_directory: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey of this test's own, to stop and to kill."""
    number = sum(1 for _ in server_directory.glob("lone-*"))
    with EmbeddedValkey(server_directory / f"lone-{number}", durable=False) as server:
        yield server


@pytest.fixture
def deaf_url() -> Iterator[str]:
    """A server that accepts and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.fixture
def absent_url() -> str:
    """An address where nothing listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"redis://127.0.0.1:{server.getsockname()[1]}/0"
