"""`celery -A pattern_storage beat` with an imports file: two of them side by side, and files that it refuses."""

import json
import os
import signal
import threading
from pathlib import Path

import psycopg
import pytest
import redis
from celery import Celery

from pattern_storage.config.settings import Settings
from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.tasks.imports.plan import beat as beat_module
from pattern_storage.tasks.imports.plan.beat import ImportScheduler
from tests.fix_imports import patterns, runs_of, write_lines
from tests.fix_process import DEADLINE, ProcessGroup, StartProcess, run_python, wait_until

#: Many due times in few seconds, and an import that nobody should start.
FILE = """
[[import]]
name = "often"
source = "often.jsonl"
every = "1s"

[[import]]
name = "never"
source = "often.jsonl"
schedule = "* * * * *"
enabled = false
"""


def test_two_beats_make_one_run_of_each_due_time(
    start_process: StartProcess, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    write_lines(tmp_path / "often.jsonl", patterns(1))
    (tmp_path / "imports.toml").write_text(FILE)
    variables = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PATTERN_STORAGE_IMPORTS_FILE": str(tmp_path / "imports.toml"),
    }

    def beat(name: str) -> ProcessGroup:
        return start_process(
            "celery", "-A", "pattern_storage", "beat", "-l", "INFO", "-s", str(tmp_path / name), **variables
        )

    def count() -> int:
        """End what beat has sent, as a worker would: an import has one open run at a time."""
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "UPDATE import_runs SET state = 'done', started_at = now(), finished_at = now()"
                " WHERE state = 'queued' AND publish_after > queued_at"
            )
        return len(runs_of(database_url))

    one, two = beat("one"), beat("two")
    wait_until(lambda: count() >= 2, "two due times have come")
    # One dies without a word, and comes back.
    os.kill(one.process.pid, signal.SIGKILL)
    one.process.wait()
    seen = count()
    wait_until(lambda: count() >= seen + 2, "the other goes on")
    one.start()
    wait_until(lambda: "beat: Starting" in one.text(), "it is back")
    seen = count()
    wait_until(lambda: count() >= seen + 2, "both go on")
    for process in (one, two):
        assert process.stop() == 0
        assert "Traceback" not in process.text()

    runs = runs_of(database_url)
    assert {run["name"] for run in runs} == {"often"}
    dues = [run["due"].timestamp() for run in runs]
    assert len(set(dues)) == len(dues)
    assert all(due == int(due) for due in dues)
    with redis.Redis.from_url(redis_url) as store:
        messages = [json.loads(raw) for raw in store.lrange("imports", 0, -1)]
    # One message for each, of which the worker needs the id alone. The beat that was killed may have marked a run and
    # not sent it: that one is sent a minute later.
    ids = [message["headers"]["id"] for message in messages]
    marked = {str(run["run_id"]) for run in runs if run["publish_after"] > run["queued_at"]}
    assert len(ids) == len(set(ids))
    assert set(ids) <= marked
    assert len(marked - set(ids)) <= 1
    assert len(ids) >= 3
    assert messages[-1]["headers"]["argsrepr"].startswith("import often, due ")


def test_what_is_due_while_redis_is_away_becomes_a_run(
    database_url: str, lone_valkey: EmbeddedValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery's own tick waits until the broker is back, which may be long after a due time has been missed."""
    (tmp_path / "imports.toml").write_text(FILE)
    url, file = lone_valkey.url, tmp_path / "imports.toml"
    settings = Settings(database_url=database_url, redis_url=url, imports_file=file, connect_timeout=1)
    monkeypatch.setattr(beat_module, "environment_settings", lambda: settings)
    app = Celery("beat", broker=url, set_as_current=False)
    app.conf.beat_schedule = {"housekeeping": {"task": "x", "schedule": 0.01}}
    lone_valkey.stop()
    scheduler, enough = ImportScheduler(app, schedule_filename=str(tmp_path / "beat")), threading.Event()

    def tick() -> None:
        while not enough.is_set():
            scheduler.tick()

    ticking = threading.Thread(target=tick, daemon=True)
    ticking.start()
    wait_until(lambda: len(runs_of(database_url)) >= 2, "two due times have come")
    assert ticking.is_alive(), "it waits for Redis"
    assert {run["state"] for run in runs_of(database_url)} == {"queued", "overlapped"}
    enough.set()
    lone_valkey.start()
    ticking.join(DEADLINE)
    scheduler.close()
    app.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[[import]]\nname = "x"\nsource = "a.csv"\nschedule = "daily"\n',
            "import 'x': schedule is 'daily'; it should",
        ),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_it_refuses(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "imports.toml"
    if text is not None:
        file.write_text(text)
    variables = {"REDIS_URL": "redis://127.0.0.1:1", "PATTERN_STORAGE_IMPORTS_FILE": str(file)}
    ended = run_python("-m", "celery", "-A", "pattern_storage", "beat", timeout=DEADLINE, **variables)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Error: {file}")
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_worker_with_a_beat_inside_refuses_it_too(tmp_path: Path, redis_url: str, database_url: str) -> None:
    """Its beat is a process of its own: the worker would say that it is ready, and nothing would ever be due."""
    file = tmp_path / "imports.toml"
    variables = {"REDIS_URL": redis_url, "DATABASE_URL": database_url, "PATTERN_STORAGE_IMPORTS_FILE": str(file)}
    command = ("-m", "celery", "-A", "pattern_storage", "worker", "-B", "-c", "1", "-s", str(tmp_path / "beat"))
    ended = run_python(*command, timeout=DEADLINE, **variables)
    assert ended.returncode == 2
    assert f"Error: {file} cannot be read: No such file or directory" in ended.stderr
    assert " ready" not in ended.stderr + ended.stdout


def test_imports_need_a_database(tmp_path: Path) -> None:
    file = tmp_path / "imports.toml"
    file.write_text(FILE)
    variables = {"REDIS_URL": "redis://127.0.0.1:1", "PATTERN_STORAGE_IMPORTS_FILE": str(file)}
    ended = run_python("-m", "celery", "-A", "pattern_storage", "beat", timeout=DEADLINE, **variables)
    assert ended.returncode == 2
    assert ended.stderr.startswith("Error: DATABASE_URL is not set")
