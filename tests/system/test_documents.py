"""Every code block of README and docs runs, as a user would copy it."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from pattern_storage.config.settings import load_settings
from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_postgres
from pattern_storage.tasks.relay import Relay
from tests.fix_celery import StorageWorker
from tests.fix_documents import BLOCK, DOCUMENTS
from tests.fix_process import DEADLINE, ROOT, clean_environment

BLOCKS = [
    pytest.param(language, code, id=f"{document.name}-{language or 'plain'}-{number}")
    for document in DOCUMENTS
    for number, (language, code) in enumerate(BLOCK.findall(document.read_text(encoding="utf-8")))
    # The ACL file: tests/integration/test_redis_rights.py; README's examples: the last test.
    if (document, language) not in ((ROOT / "docs/redis.md", "text"), (DOCUMENTS[0], "python"))
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
    with redis.Redis.from_url(worker.redis_url) as server:
        server.delete("storage.unreadable")
    yield tmp_path
    with psycopg.connect(worker.database_url, autocommit=True) as connection:
        # docs/operations.md creates one, and roles belong to the whole server.
        if connection.execute("SELECT FROM pg_roles WHERE rolname = 'patterns_service'").fetchone() is not None:
            connection.execute("DROP OWNED BY patterns_service")
            connection.execute("DROP ROLE patterns_service")


@pytest.fixture(scope="module", autouse=True)
def _relay(worker: StorageWorker) -> Iterator[None]:
    """What `up` has besides: README's example of the outbox waits for its result."""
    relay = Relay(load_settings(database_url=worker.database_url, redis_url=worker.redis_url))
    thread = threading.Thread(target=relay.run)
    thread.start()
    yield
    relay.stop()
    thread.join(DEADLINE)


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


#: What README says that each of its Python examples prints, the first time and when it runs again.
PRINTED = (
    ("True {'pattern_id'", "False None Pattern already exists: AsyncDatabaseWriter (code/python)"),
    ("Counter({'stored': 100})", "Counter({'unique_violation': 100})"),
    ("True None", "False Pattern already exists: Outbox (code/python)"),
    ("{'success': True", "{'success': False"),
)


def test_readme_examples_print_what_it_says(tmp_path: Path, worker: StorageWorker) -> None:
    with psycopg.connect(worker.database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM pattern_templates")
    examples = [code for language, code in BLOCK.findall(DOCUMENTS[0].read_text()) if language == "python"]
    for code, printed in zip(examples, PRINTED, strict=True):
        for starts in printed:
            done = _run([sys.executable, "-c", code], tmp_path, worker)
            assert (done.returncode, done.stdout.startswith(starts)) == (0, True), done.stdout + done.stderr
