"""The application's own tests: `pytest`. It knows only names, so there is a real worker, in a thread."""

import os
from importlib import reload
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
