"""PostgreSQL and Valkey of a test run: embedded ones, or those of TEST_DATABASE_URL and TEST_REDIS_URL.

Every process of pytest-xdist has embedded servers of its own; servers that were given are shared, with other databases
for each process.
"""

import atexit
import os
import shutil
import tempfile
from contextlib import ExitStack
from functools import cache, cached_property
from pathlib import Path

from pattern_storage.extras import require
from pattern_storage.testing.databases import create_database, database_of, drop_database, on_database

#: pytest-xdist's name of this process.
XDIST_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")


class TestServers:
    """The servers, each started when it is first used. Raises ExtraMissing then, without the extra `testing`."""

    # pytest would take it for tests.
    __test__ = False

    def __init__(self) -> None:
        self._cleanup = ExitStack()

    def close(self) -> None:
        """Stop the servers that were started, and remove their files."""
        self._cleanup.close()
        for name in ("postgres_url", "redis_url", "template", "_directory"):
            self.__dict__.pop(name, None)

    @cached_property
    def postgres_url(self) -> str:
        """The URL of the PostgreSQL server in which databases can be created."""
        if url := os.environ.get("TEST_DATABASE_URL"):
            return url
        require("a PostgreSQL for tests", "embedded", install="testing")
        from pattern_storage.embedded import EmbeddedPostgres

        return self._cleanup.enter_context(EmbeddedPostgres(self._directory / "postgres", durable=False)).url

    @cached_property
    def redis_url(self) -> str:
        """The URL of this process's Redis database, which has an even number; the next is `worker_redis_url`."""
        if url := os.environ.get("TEST_REDIS_URL"):
            return on_database(url, str(2 * int(XDIST_WORKER.removeprefix("gw"))))
        require("a Redis for tests", "embedded", install="testing")
        from pattern_storage.embedded import EmbeddedValkey

        return self._cleanup.enter_context(EmbeddedValkey(self._directory / "valkey", durable=False)).url

    @property
    def worker_redis_url(self) -> str:
        """The URL of the worker's Redis database: in the other it would take jobs of tests that want no worker."""
        return on_database(self.redis_url, str(int(database_of(self.redis_url)) + 1))

    @cached_property
    def template(self) -> str:
        """The name of a migrated database without rows; a copy can only be made while no connection uses it."""
        require("a database for tests", "worker", install="testing")
        from pattern_storage.storage import schema

        name = create_database(self.postgres_url, label=XDIST_WORKER)
        self._cleanup.callback(drop_database, self.postgres_url, name)
        schema.upgrade(on_database(self.postgres_url, name))
        return name

    def create_database(self) -> str:
        """Create a migrated database without rows and return its URL."""
        return on_database(self.postgres_url, create_database(self.postgres_url, self.template, label=XDIST_WORKER))

    def drop_database(self, url: str) -> None:
        """Drop a database that `create_database` has created."""
        drop_database(self.postgres_url, database_of(url))

    def empty_redis(self, *, worker: bool = False) -> str:
        """Empty this process's Redis database, or that of its worker, and return its URL."""
        import redis

        url = self.worker_redis_url if worker else self.redis_url
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url

    @cached_property
    def _directory(self) -> Path:
        # Not one of pytest's, which are 0700: PostgreSQL refuses root and then runs as `nobody`.
        path = Path(tempfile.mkdtemp(prefix=f"pattern-storage-testing-{XDIST_WORKER}-"))
        path.chmod(0o755)
        self._cleanup.callback(shutil.rmtree, path, ignore_errors=True)
        return path


@cache
def shared_servers() -> TestServers:
    """Return the servers of this process, which stop when it ends."""
    servers = TestServers()
    atexit.register(servers.close)
    return servers
