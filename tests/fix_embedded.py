"""Directories of embedded servers: in memory where there is room, and with a PostgreSQL that was created before."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from pattern_storage.embedded import EmbeddedPostgres
from tests.fix_cli import make_home

AS_ROOT = os.geteuid() == 0
# Each cluster is 46 MB of small files, which costs seconds on some disks. Nothing here needs a disk.
MEMORY = Path("/dev/shm")
SCRATCH = (
    MEMORY
    if MEMORY.is_dir() and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(MEMORY).free > 1 << 30
    else None
)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for servers that tests only start and stop."""
    directory = make_home(SCRATCH)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def finished() -> Iterator[Path]:
    """A PostgreSQL that was created and stopped. initdb is most of the time these tests take: most copy this."""
    directory = make_home(SCRATCH)
    with EmbeddedPostgres(directory / "postgres", durable=False):
        pass
    (directory / "postgres" / "port").unlink()
    yield directory / "postgres"
    shutil.rmtree(directory)


@pytest.fixture
def data_dir(scratch: Path, finished: Path) -> Path:
    """The data directory of a stack whose PostgreSQL was created before, in `postgres`."""
    (scratch / "data").mkdir()
    subprocess.run(["cp", "-a", finished, scratch / "data"], check=True)
    return scratch / "data"


def answer(url: str, query: str) -> object:
    """Return the first value of a query."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def connect_redis(url: str) -> "redis.Redis":
    """Return a client whose answers are text."""
    return redis.Redis.from_url(url, decode_responses=True)
