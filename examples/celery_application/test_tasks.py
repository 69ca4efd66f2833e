"""The application's own tests: `pytest`. It knows only names, so there is a real worker, in a thread."""

import os
import subprocess
import sys
import time
from importlib import reload
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from pattern_storage.testing import ThreadWorker


@pytest.fixture
def tasks(pattern_storage_worker: ThreadWorker, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The application, on the queue of the worker."""
    import tasks

    return reload(tasks)


def test_a_pattern_is_stored(tasks: ModuleType) -> None:
    result = tasks.store("Visitor")
    assert (result["success"], result["data"]["pattern_name"]) == (True, "Visitor")
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT pattern_name FROM pattern_templates").fetchall() == [("Visitor",)]


def test_its_own_tasks_are_its_own(tasks: ModuleType) -> None:
    assert tasks.count_words("three words here") == 3
    assert tasks.app.main == "tasks"


def test_links_reach_its_own_worker(tasks: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "solo"]
        worker = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=output, stderr=subprocess.STDOUT)
    try:
        tasks.store_and_announce("Linked")
        wait_for("stored Linked", log)
        # A second of this name.
        tasks.store_and_announce("Linked")
        wait_for("not stored: {'success': False", log)
    finally:
        worker.kill()
        worker.wait()


def wait_for(text: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while text not in (said := log.read_text()):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
