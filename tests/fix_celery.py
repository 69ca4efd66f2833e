"""Real Celery workers: pytest-celery's classes over process groups in place of containers.

`worker` is one that all tests share, `start_worker` starts workers of the test's own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import celery
import psutil
import psycopg
import pytest
import redis
from celery import Celery
from psycopg.sql import SQL
from pytest_celery import CeleryTestContainer, CeleryTestWorker
from pytest_docker_tools.exceptions import TimeoutError as LogTimeout

from pattern_storage.config.celeryconfig import QUEUES
from tests.fix_process import DEADLINE, ProcessGroup, clean_environment, wait_until
from tests.fix_servers import create_database, drop_database, on_database


class WorkerContainer(CeleryTestContainer):  # type: ignore[misc]
    """One `celery -A pattern_storage worker`."""

    @property
    def group(self) -> ProcessGroup:
        group: ProcessGroup = self._container
        return group

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {}

    @classmethod
    def version(cls) -> str:
        return str(celery.__version__)

    @classmethod
    def log_level(cls) -> str:
        return "INFO"

    @classmethod
    def worker_name(cls) -> str:
        return "storage"

    @classmethod
    def worker_queue(cls) -> str:
        return QUEUES[0]

    def _wait_ready(self, timeout: float = DEADLINE) -> bool:
        def ready() -> bool:
            # What an earlier start has logged does not count.
            log = self.group.text()
            assert self.group.status == "running", f"{self.name} ended with {self.group.process.returncode}:\n{log}"
            return " ready." in log

        return bool(wait_until(ready, f"{self.name} is ready", timeout))

    def teardown(self) -> None:
        self.group.discard()


class StorageWorker(CeleryTestWorker):  # type: ignore[misc]
    """A running worker and the servers it works on. `hostname()` is its Celery node name."""

    container: WorkerContainer

    def __init__(self, container: WorkerContainer, database_url: str, redis_url: str, app: Celery | None) -> None:
        super().__init__(container, app)
        self.database_url, self.redis_url = database_url, redis_url

    @property
    def pid(self) -> int:
        """The main process."""
        return self.container.group.process.pid

    def children(self) -> list[int]:
        """Process ids of the prefork children."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def stop(self) -> int:
        """End it in an orderly way and return its exit code."""
        return self.container.group.stop()

    def get_running_processes_info(
        self, columns: list[str] | None = None, filters: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        main = psutil.Process(self.pid)
        found = [process.as_dict(columns) for process in (main, *main.children(recursive=True))]
        return [info for info in found if all(info.get(key) == value for key, value in (filters or {}).items())]

    def wait_for_log(self, log: str, message: str = "", timeout: float = DEADLINE) -> None:
        try:
            wait_until(lambda: log in self.logs(), message or f"{self.name()} logs {log!r}", timeout)
        except AssertionError as error:
            raise LogTimeout(str(error)) from None


StartWorker = Callable[..., StorageWorker]


def launch_worker(
    database_url: str,
    redis_url: str,
    log: Path,
    *,
    pool: str = "prefork",
    concurrency: int = 2,
    queues: Sequence[str] = QUEUES,
    env: dict[str, str] | None = None,
    options: Sequence[str] = (),
    app: Celery | None = None,
) -> StorageWorker:
    """Start `celery -A pattern_storage worker` and return when it is ready."""
    environment = clean_environment(DATABASE_URL=database_url, REDIS_URL=redis_url, **env or {})
    arguments = [
        "celery",
        "-A",
        "pattern_storage",
        "worker",
        "-P",
        pool,
        "-c",
        str(concurrency),
        "-Q",
        ",".join(queues),
    ]
    arguments += ["-n", f"{WorkerContainer.worker_name()}@%ID", "-l", WorkerContainer.log_level(), *options]
    container = WorkerContainer(ProcessGroup(f"worker {log.stem}", arguments, environment, log))
    try:
        container._wait_ready()
    except BaseException:
        container.teardown()
        raise
    return StorageWorker(container, database_url, redis_url, app)


@pytest.fixture(scope="session")
def worker(
    postgres_url: str, template_database: str, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StorageWorker]:
    """A prefork worker that all tests share, with a database and a Redis database of its own: do not stop it."""
    # Redis has databases 0 to 15, and the first half are for the tests' own.
    redis_url = on_database(valkey_url, str(int(urlsplit(valkey_url).path.strip("/") or 0) + 8))
    with redis.Redis.from_url(redis_url) as connection:
        connection.flushdb()
    name = create_database(postgres_url, template_database)
    log = tmp_path_factory.mktemp("workers") / "shared.log"
    shared = launch_worker(on_database(postgres_url, name), redis_url, log)
    yield shared
    shared.teardown()
    drop_database(postgres_url, name)


@pytest.fixture
def start_worker(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Callable[..., StorageWorker]]:
    """Start a worker on this test's `database_url` and `redis_url`; the arguments are those of `launch_worker`."""
    started: list[StorageWorker] = []

    def start(**options: Any) -> StorageWorker:
        # Nobody else is there to mingle with, and waiting for an answer takes a second.
        options = {"options": ("--without-mingle", "--without-gossip")} | options
        started.append(launch_worker(database_url, redis_url, tmp_path / f"worker-{len(started)}.log", **options))
        return started[-1]

    yield start
    for one in started:
        one.teardown()


@contextmanager
def locked_patterns(database_url: str) -> Iterator[psycopg.Connection]:
    """Keep every job from writing or reading patterns inside the block; yields the connection that does so."""
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE pattern_templates IN ACCESS EXCLUSIVE MODE")
        yield connection


def worker_connections(database_url: str, where: SQL = SQL("TRUE")) -> list[int]:  # noqa: B008
    """Return the process ids of the connections that workers have to this database."""
    statement = SQL(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'pattern-storage worker' AND {}"
    ).format(where)
    with psycopg.connect(database_url, autocommit=True) as connection:
        return [pid for (pid,) in connection.execute(statement)]


#: Connections that wait for a lock, and such that have a transaction open.
BLOCKED = SQL("wait_event_type = 'Lock'")
IN_TRANSACTION = SQL("xact_start IS NOT NULL")
