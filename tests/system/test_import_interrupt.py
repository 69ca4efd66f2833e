"""Ctrl-C in `import FILE`: nothing is stored, which it says, and the run is closed as cancelled."""

import signal
from pathlib import Path

import psycopg

from tests.fix_celery import locked_patterns
from tests.fix_imports import patterns, runs_of, write_lines
from tests.fix_process import wait_until
from tests.fix_storage import count_patterns
from tests.fix_up import Running


def test_an_interrupted_import_is_cancelled(database_url: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", patterns(3))
    with locked_patterns(database_url):
        running = Running("import", str(path), log=tmp_path / "log", DATABASE_URL=database_url)
        try:
            with psycopg.connect(database_url, autocommit=True) as connection:
                reports = "SELECT progress ->> 'name' FROM import_progress"
                wait_until(lambda: connection.execute(reports).fetchone() is not None, "it reports its progress")
            running.signal(signal.SIGINT)
            assert running.wait() == 130
        finally:
            running.end()
    [run] = runs_of(database_url)
    assert (run["state"], run["error_type"]) == ("cancelled", "revoked")
    assert count_patterns(database_url) == 0
    assert running.text == "The import is rolled back: nothing is stored.\n"
