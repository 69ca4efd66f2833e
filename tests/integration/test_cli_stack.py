"""A running `pattern-storage up`, which every command finds by itself, also as a real process."""

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from pattern_storage.embedded import StackState, read_state
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.state import write_state
from tests.fix_cli import ABSENT_POSTGRES, ABSENT_REDIS, PATTERN, Cli, Said, command_line, numbered, run_script
from tests.fix_imports import write_lines
from tests.fix_process import wait_until
from tests.fix_up import Up

Run = Callable[..., Said]


@pytest.fixture
def run(cli: Cli, up: Up) -> Run:
    """The command line where the running stack is its default."""

    def on_the_stack(*arguments: str, **options: Any) -> Said:
        return cli(*arguments, **{**up.variables, **options})

    return on_the_stack


def test_processes_find_the_stack_and_pipe_json(up: Up, name: str) -> None:
    said = run_script("insert", f"pattern_name={name} é", *PATTERN, "--json", **up.variables)
    assert (said.code, said.err, said.json["data"]["pattern_name"]) == (0, "", f"{name} é")
    said = run_script("insert", f"pattern_name={name} é", *PATTERN, **up.variables)
    assert (said.code, said.out) == (1, "")
    said = run_script("query", "--name", f"{name} é", "--json", PYTHONIOENCODING="ascii", **up.variables)
    assert (said.code, said.json["data"]["count"]) == (0, 1)
    said = run_script("insert", "-f", "-", stdin=b"{", **up.variables)
    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1


def test_a_closed_pipe_is_no_traceback(up: Up, run: Run, name: str, tmp_path: Path) -> None:
    code = "x = '" + "y" * 500_000 + "'"  # more than a pipe holds
    assert run("insert", "-f", str(write_lines(tmp_path / "p", numbered(name, 1, template_code=code)))).code == 0
    command, environment = command_line("query", "--name", f"{name} 000", "--json", **up.variables)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"{\n"
        process.stdout.close()
        assert process.stderr.read() == b""


def test_no_stack_at_all(cli: Cli, tmp_path: Path) -> None:
    for command, variable in [("query", "REDIS_URL"), ("doctor", "DATABASE_URL"), ("migrate", "DATABASE_URL")]:
        said = cli(command, PATTERN_STORAGE_DATA_DIR=str(tmp_path))
        assert (said.code, said.out) == (2, "")
        assert said.error == (
            f"Error: {variable} is not set and no servers run in {tmp_path};"
            f" set {variable}, or start servers of your own with 'pattern-storage up'"
        )


def test_a_folder_has_one_up_whatever_its_servers(cli: Cli, tmp_path: Path) -> None:
    """In a shell that has the URLs of `env`, too."""
    holder = DirectoryLock(tmp_path / "stack.lock")
    given: dict[str, Any] = {"DATABASE_URL": ABSENT_POSTGRES, "REDIS_URL": ABSENT_REDIS}
    (tmp_path / "state.json").write_text("of a stack that was killed")
    holder.acquire()
    said = cli("up", "--no-flower", "--data-dir", str(tmp_path), **given)
    assert (said.code, said.out) == (2, "")
    assert said.error.startswith(f"Error: {tmp_path} is in use by process {os.getpid()}: ")
    holder.release()
    assert cli("up", "--no-flower", "--data-dir", str(tmp_path), **given).code == 3
    holder.acquire()  # what held the folder has released it
    assert read_state(tmp_path) is None
    holder.release()


def test_a_shell_that_has_the_urls_of_a_stopped_up_is_told(cli: Cli, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "DATABASE_URL": ABSENT_POSTGRES, "REDIS_URL": ABSENT_REDIS, "PATTERN_STORAGE_DATA_DIR": str(tmp_path),
    }  # fmt: skip
    commands = (("up", "--no-flower"), ("query",), ("doctor",))
    assert not any("has stopped" in cli(*command, **given).err for command in commands), "its servers may be any"
    for server in ("postgres", "valkey"):
        (tmp_path / server).mkdir()
        (tmp_path / server / "port").write_text("1\n")
    hint = (
        "DATABASE_URL and REDIS_URL are left from a 'pattern-storage up' that has stopped:"
        " 'unset DATABASE_URL REDIS_URL', and start it again."
    )
    for command in commands:
        said = cli(*command, **given)
        assert (said.code, said.error.endswith(hint)) == (3, True), said.err
    assert hint in cli("query", "--json", **given).json["error"]
    other = cli("query", **given | {"DATABASE_URL": "postgresql://127.0.0.1:2/x"})
    assert "REDIS_URL is left from a 'pattern-storage up' that has stopped: 'unset REDIS_URL'" in other.error
    lock = DirectoryLock(tmp_path / "stack.lock")
    lock.acquire()
    write_state(tmp_path, StackState(1, ABSENT_POSTGRES, ABSENT_REDIS, datetime.now(UTC)))
    assert "has stopped" not in cli("query", **given).err
    lock.release()


def test_batches_without_a_result_do_not_hide_the_others(run: Run, up: Up, name: str, tmp_path: Path) -> None:
    file = str(write_lines(tmp_path / "p", numbered(name, 4)))
    worker = up.member("worker")
    stopped = [worker, *worker.children(recursive=True)]
    for process in stopped:
        process.suspend()
    try:
        said = run("insert", "--file", file, "--batch-size", "2", "--wait", "0.01", "--json")
        assert said.code == 3
        assert [result["metadata"]["error_type"] for result in said.json] == ["no_result_yet"] * 2
        assert "2 of 2 batches have no result yet" in said.error
        one = run("insert", f"pattern_name={name}", *PATTERN, "--wait", "0.01")
        assert one.code == 3
        assert "its status is QUEUED" in one.error
        assert "is a worker running?" in one.error
        job = one.error.split("job ")[1].split()[0]
        assert run("status", job).out == "QUEUED\n"
    finally:
        for process in stopped:
            process.resume()
    for result in said.json:
        assert run("result", result["metadata"]["correlation_id"], "--wait", "30").code == 0
    wait_until(lambda: run("status", job).out == "SUCCESS\n", "the job goes on")


def test_the_servers_of_the_stack_hold_what_was_done(up: Up, run: Run, name: str) -> None:
    said = run("insert", f"pattern_name={name}", *PATTERN, "--json")
    with psycopg.connect(up.state.database_url) as connection:
        found = connection.execute("SELECT id FROM pattern_templates WHERE pattern_name = %s", [name]).fetchall()
    assert [str(row[0]) for row in found] == [said.json["data"]["pattern_id"]]
    with redis.Redis.from_url(up.state.redis_url) as server:
        key = f"celery-task-meta-{said.json['metadata']['correlation_id']}"
        assert server.ttl(key) > 0


def test_a_shell_learns_where_the_servers_are(run: Run, up: Up) -> None:
    said = run("env")
    assert said.code == 0
    urls = {"DATABASE_URL": up.state.database_url, "REDIS_URL": up.state.redis_url}
    assert said.out.splitlines() == [f"export {variable}={url}" for variable, url in urls.items()]
    assert run("env", "--json").json == urls
    # The folder is not the default one.
    assert f"\nexport PATTERN_STORAGE_DATA_DIR={up.data_dir}\n" in up.text


def test_a_delayed_job_is_listed_and_cancelled_by_filter(run: Run, up: Up, name: str) -> None:
    """A worker has its message, and no list of the queue."""
    assert run("insert", f"pattern_name={name}", *PATTERN, "--delay", "600", "--wait", "0").code == 0
    with redis.Redis.from_url(up.state.redis_url) as server:
        wait_until(lambda: not server.llen("storage"), "the worker has taken it")
    listing = ("jobs", "list", "--state", "QUEUED", "--name", name, "--json")
    [listed] = run(*listing).json["waiting"]
    assert run("jobs", "cancel", "--name", name, "--dry-run", "--json").json["count"] == 1
    assert run("jobs", "cancel", "--name", name, "--yes").code == 0
    assert run(*listing).json["waiting"] == []
    assert run("jobs", "show", listed["correlation_id"], "--json").json["state"] == "REVOKED"
