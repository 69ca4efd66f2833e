"""Every code block of README and docs runs, as a user would copy it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_postgres
from tests.fix_celery import StorageWorker
from tests.fix_documents import BLOCK, DOCUMENTS
from tests.fix_process import DEADLINE, ROOT, clean_environment

BLOCKS = [
    pytest.param(language, code, id=f"{document.name}-{language or 'plain'}-{number}")
    for document in DOCUMENTS
    for number, (language, code) in enumerate(BLOCK.findall(document.read_text(encoding="utf-8")))
    if (document.name, language) != ("redis.md", "text")  # the ACL file: tests/integration/test_redis_rights.py
]


def _run(arguments: list[str], folder: Path, worker: StorageWorker) -> subprocess.CompletedProcess[str]:
    # As a user has it: the programs of our installation on PATH, in a folder that is not the repository; PostgreSQL's,
    # and what stands in for programs that talk to a container engine or a cluster.
    postgres = find_postgres(folder, Account(os.geteuid(), os.getegid(), switched=False)).postgres.parent
    places = [Path(sys.executable).parent, ROOT / "tests/programs", postgres]
    path = os.pathsep.join([*map(str, places), os.environ["PATH"]])
    # Not measured: the documents are examples of what other tests cover, and harvesting under coverage is slow.
    unmeasured = {name: "" for name in os.environ if name.startswith("COV")}
    urls = {"DATABASE_URL": worker.database_url, "REDIS_URL": worker.redis_url}
    environment = clean_environment(**urls, PATH=path) | unmeasured
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE * 2, check=False
    )


def test_there_is_something_to_run() -> None:
    assert len(BLOCKS) >= 5


@pytest.fixture
def folder(tmp_path: Path, worker: StorageWorker) -> Iterator[Path]:
    """Where a user stands who has copied what a deployment needs."""
    for name in ("deploy", "docker-compose.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    with psycopg.connect(worker.database_url, autocommit=True) as connection:
        # What other tests on this worker left for an operator to see to: doctor would, rightly.
        connection.execute("DELETE FROM dead_letters")
        connection.execute("DELETE FROM import_runs WHERE state = 'failed'")
    yield tmp_path
    with psycopg.connect(worker.database_url, autocommit=True) as connection:
        # docs/operations.md creates one, and roles belong to the whole server.
        if connection.execute("SELECT FROM pg_roles WHERE rolname = 'patterns_service'").fetchone() is not None:
            connection.execute("DROP OWNED BY patterns_service")
            connection.execute("DROP ROLE patterns_service")


@pytest.mark.parametrize(("language", "code"), BLOCKS)
def test_block_runs(language: str, code: str, folder: Path, worker: StorageWorker) -> None:
    if language == "python":
        done = _run([sys.executable, "-c", code], folder, worker)
    else:
        assert language == "bash", "a block that no test can run"
        # The two commands would run this test again: make says what they do, .ci/run does it.
        folder = ROOT if code.startswith(("make ", ".venv/")) else folder
        with redis.Redis.from_url(worker.redis_url) as connection:
            connection.config_set("appendonly", "yes")  # or doctor, rightly, finds fault with it
        # pytest inside of pytest only collects: what it would run is run beside this.
        dry = re.sub(r"^make ", "make --dry-run ", code, flags=re.MULTILINE)
        dry = re.sub(
            r"^\.venv/bin/python -m pytest", f"{sys.executable} -m pytest --collect-only -q", dry, flags=re.MULTILINE
        )
        done = _run(["bash", "-euo", "pipefail", "-c", dry], folder, worker)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_example_stores_a_pattern(tmp_path: Path, worker: StorageWorker) -> None:
    """The first example prints a success, and its result is in Redis under the id it prints."""
    example = next(code for language, code in BLOCK.findall(DOCUMENTS[0].read_text()) if language == "python")
    unique = example.replace("AsyncDatabaseWriter", "AsyncDatabaseWriterOnce")
    done = _run([sys.executable, "-c", unique], tmp_path, worker)
    success, *_, correlation_id = done.stdout.split()
    assert success == "True", done.stdout + done.stderr
    with redis.Redis.from_url(worker.redis_url) as connection:
        assert connection.exists(f"celery-task-meta-{correlation_id}")
