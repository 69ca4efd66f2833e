"""Directories of embedded servers: in memory where there is room, and with a PostgreSQL that was created before.

A test module takes these fixtures by assignment, as in `home = fix_embedded.home`.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pattern_storage.embedded import EmbeddedPostgres

AS_ROOT = os.geteuid() == 0
# Each cluster is 46 MB of small files, which costs seconds on some disks. Nothing here needs a disk.
MEMORY = Path("/dev/shm")
SCRATCH = (
    MEMORY
    if MEMORY.is_dir() and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(MEMORY).free > 1 << 30
    else None
)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that `nobody` can enter too; pytest's tmp_path is closed to it when root runs the tests."""
    directory = Path(tempfile.mkdtemp(prefix="embedded-", dir=SCRATCH))
    directory.chmod(0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def finished() -> Iterator[Path]:
    """A PostgreSQL that was created and stopped. initdb is most of the time these tests take: most copy this."""
    directory = Path(tempfile.mkdtemp(prefix="embedded-", dir=SCRATCH))
    directory.chmod(0o711)
    with EmbeddedPostgres(directory / "postgres", durable=False):
        pass
    (directory / "postgres" / "port").unlink()
    yield directory / "postgres"
    shutil.rmtree(directory)


@pytest.fixture
def data_dir(home: Path, finished: Path) -> Path:
    """The data directory of a stack whose PostgreSQL was created before, in `postgres`."""
    (home / "data").mkdir()
    subprocess.run(["cp", "-a", finished, home / "data"], check=True)
    return home / "data"
