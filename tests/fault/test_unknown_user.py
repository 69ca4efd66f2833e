"""A user without a name and without a home, as a container with an arbitrary uid has: all but `up` works."""

import os
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_process import DEADLINE
from tests.fix_storage import make_pattern
from tests.fix_up import Running
from tests.fix_user import other_python

UNKNOWN = 54_321
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program as another user")


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Any:
    """Start `python -m ...` as that user."""
    python, environment = other_python(UNKNOWN, home)
    started: list[Running] = []

    def begin(*arguments: str, **variables: str) -> Running:
        # The tests' own environment has both.
        unset = [f"--unset={name}" for name in ("HOME", "PATTERN_STORAGE_DATA_DIR") if name not in variables]
        running = Running(
            *arguments, log=tmp_path / f"{len(started)}.log", cwd=home, command=["env", *unset, python, "-m"],
            user=UNKNOWN, environment=environment | variables,
        )  # fmt: skip
        started.append(running)
        return running

    yield begin
    for running in started:
        running.end()


def test_a_worker_and_commands(run: Any, database_url: str, redis_url: str, client: PatternStorageClient) -> None:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    worker = run("celery", "-A", "pattern_storage", "worker", "-c", "1", "--without-mingle", "-l", "INFO", **urls)
    worker.wait_for(" ready.")
    job = client.insert(make_pattern())
    assert job.result(DEADLINE).success
    shown = run("pattern_storage", "result", str(job.correlation_id), **urls)
    assert shown.wait() == 0, shown.text
    doctor = run("pattern_storage", "doctor", "--json", **urls)
    # Redis of the tests keeps nothing, which doctor does not like.
    assert doctor.wait() == 1, doctor.text
    assert '"unreachable": true' not in doctor.text
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        # No stack is there, or one of root's, which this user may not look at.
        (["query"], {}, "/var/lib/pattern-storage"),
        (
            ["query"],
            {"PATTERN_STORAGE_DATA_DIR": "~/data"},
            "should be a path without ~, because this user has no home",
        ),
        (["up"], {}, "/var/lib/pattern-storage"),
    ],
)
def test_one_sentence(run: Any, arguments: list[str], variables: dict[str, str], says: str) -> None:
    command = run("pattern_storage", *arguments, **variables)
    assert command.wait() == 2
    assert says in command.text
    assert "Traceback" not in command.text


def test_embedded_servers_need_a_name(run: Any, home: Path) -> None:
    (home / "own").mkdir()
    os.chown(home / "own", UNKNOWN, UNKNOWN)
    command = run("pattern_storage", "up", PATTERN_STORAGE_DATA_DIR=str(home / "own" / "data"))
    assert command.wait() == 3
    assert f"this system has none for user {UNKNOWN}: run as a user with an entry in /etc/passwd" in command.text
    assert "Traceback" not in command.text


def test_a_url_without_a_user_says_so(run: Any, database_url: str, redis_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        url = f"postgresql://127.0.0.1:{connection.info.port}/x"
    command = run("pattern_storage", "migrate", DATABASE_URL=url, REDIS_URL=redis_url)
    assert command.wait() in (2, 3)
    assert f"user with ID {UNKNOWN} does not exist" in command.text
    assert "Traceback" not in command.text
