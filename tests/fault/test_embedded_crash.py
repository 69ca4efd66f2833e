"""What is left of the embedded servers when the process that started them is killed."""

import json
import os
import pwd
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pattern_storage.embedded import EmbeddedPostgres, EmbeddedStack, EmbeddedValkey, read_state
from tests.fix_embedded import AS_ROOT
from tests.fix_process import ROOT, wait_until
from tests.fix_user import other_python

# Starts a stack, says where it is in one line of JSON, and waits for its end.
HOLDER = """
import json, sys
from pathlib import Path
from pattern_storage.embedded import EmbeddedStack
{before}
stack = EmbeddedStack(Path(sys.argv[1]), durable=False)
with stack:
    {inside}
    try:
        print(json.dumps({{"pids": [stack.postgres.pid, stack.valkey.pid]}}), flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        print(json.dumps(stack.running), flush=True)
"""


@pytest.fixture
def hold() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Runs HOLDER in a process of its own, which a failing test does not leave behind."""
    started: list[subprocess.Popen[str]] = []

    def start(
        data_dir: Path, *, before: str = "", inside: str = "pass", user: int | None = None,
        python: str = sys.executable, environment: dict[str, str] | None = None,
    ) -> "subprocess.Popen[str]":  # fmt: skip
        child = subprocess.Popen(
            [python, "-c", HOLDER.format(before=before, inside=inside), str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            user=user,
            extra_groups=[] if user else None,
            env=os.environ | (environment or {}),
        )
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                pipe.close()


def line_of(child: "subprocess.Popen[str]") -> Any:
    assert child.stdout is not None
    assert select.select([child.stdout], [], [], 20)[0], "it says nothing for 20 s"
    return json.loads(child.stdout.readline())


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def working_in(directory: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(directory)) or str(directory) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass
    return found


def add_row(url: str) -> int:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
        row = connection.execute("SELECT count(*)::int FROM kept").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells servers that their parent died")
def test_kill_9_leaves_no_servers_and_no_state(scratch: Path, hold: Callable[..., "subprocess.Popen[str]"]) -> None:
    child = hold(scratch / "data")
    said = line_of(child)
    state = read_state(scratch / "data")
    assert state is not None
    assert state.pid == child.pid
    assert add_row(state.database_url) == 1

    child.kill()
    child.wait()
    wait_until(lambda: read_state(scratch / "data") is None, "the state of a dead stack is not believed")
    assert (scratch / "data" / "state.json").exists(), "it had no chance to clean up"
    wait_until(lambda: not any(alive(pid) for pid in said["pids"]), "both servers follow their parent")
    wait_until(lambda: not working_in(scratch), "nor is any of their children left")

    with EmbeddedStack(scratch / "data", durable=False) as stack:
        assert stack.database_url == state.database_url
        assert add_row(stack.database_url) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells servers that their parent died")
def test_the_next_start_need_not_wait_for_the_old_servers(
    data_dir: Path, hold: Callable[..., "subprocess.Popen[str]"]
) -> None:
    child = hold(data_dir)
    line_of(child)
    child.kill()
    with EmbeddedStack(data_dir, durable=False) as stack:
        assert add_row(stack.database_url) == 1


def test_kill_9_in_the_middle_of_initdb(scratch: Path, hold: Callable[..., "subprocess.Popen[str]"]) -> None:
    child = hold(scratch / "data")
    server = scratch / "data" / "postgres"
    # PG_VERSION is what makes a directory look like a finished one.
    wait_until(lambda: list(server.glob("data.new-*/PG_VERSION")), "initdb has begun")
    child.kill()
    child.wait()
    assert not (server / "data").exists()
    with EmbeddedStack(scratch / "data", durable=False) as stack:
        assert add_row(stack.database_url) == 1
    assert not list(server.glob("data.new*"))
    assert not list(server.glob(".*")), "no password lies about"


def test_orphans_are_stopped_and_their_data_kept(data_dir: Path, hold: Callable[..., "subprocess.Popen[str]"]) -> None:
    child = hold(
        data_dir, before="import pattern_storage.embedded.launcher\npattern_storage.embedded.launcher._libc = None"
    )
    said = line_of(child)
    state = read_state(data_dir)
    assert state is not None
    assert add_row(state.database_url) == 1
    child.kill()
    child.wait()
    assert all(alive(pid) for pid in said["pids"]), "nobody told them"
    with EmbeddedStack(data_dir, durable=False) as stack:
        assert not any(alive(pid) for pid in said["pids"])
        assert stack.database_url == state.database_url
        assert add_row(stack.database_url) == 2


def test_a_pid_file_whose_number_another_program_got(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir / "postgres") as postgres:
        assert add_row(postgres.url) == 1
        pid_file = data_dir / "postgres" / "data" / "postmaster.pid"
        content = pid_file.read_text().splitlines()
        postgres.kill()
        owner = pid_file.stat().st_uid
        with subprocess.Popen(["sleep", "60"], user=owner if AS_ROOT else None) as stranger:
            pid_file.write_text("\n".join([str(stranger.pid), *content[1:]]) + "\n")
            postgres.start()
            assert stranger.poll() is None, "it is none of our business"
            assert add_row(postgres.url) == 2
            stranger.kill()


def test_a_forked_child_neither_keeps_the_directory_nor_stops_the_servers(
    data_dir: Path, hold: Callable[..., "subprocess.Popen[str]"]
) -> None:
    forks = "import os, time\n    if os.fork() == 0:\n        stack.stop()\n        time.sleep(60)\n"
    child = hold(data_dir, inside=forks)
    said = line_of(child)
    grandchild = psutil.Process(child.pid).children()
    assert all(alive(pid) for pid in said["pids"])
    assert read_state(data_dir) is not None
    [fork] = [process for process in grandchild if process.name().startswith("python")]
    try:
        child.kill()
        child.wait()
        with EmbeddedStack(data_dir, durable=False) as stack:
            assert fork.is_running()
            assert add_row(stack.database_url) == 1
    finally:
        fork.kill()


def test_ctrl_c_reaches_us_and_not_the_servers(data_dir: Path, hold: Callable[..., "subprocess.Popen[str]"]) -> None:
    child = hold(data_dir)
    said = line_of(child)
    os.killpg(child.pid, signal.SIGINT)  # what a terminal does
    assert line_of(child) is True, "the servers still run when we see the interrupt"
    assert child.wait(20) == 0
    assert not any(alive(pid) for pid in said["pids"])
    assert read_state(data_dir) is None


@pytest.mark.skipif(not AS_ROOT, reason="the other tests run as an ordinary user already")
def test_as_an_ordinary_user(scratch: Path, hold: Callable[..., "subprocess.Popen[str]"]) -> None:
    user = pwd.getpwnam("daemon").pw_uid
    os.chown(scratch, user, user)
    python, environment = other_python(user, scratch)
    child = hold(scratch / "data", user=user, python=python, environment=environment | {"HOME": str(scratch / "data")})
    said = line_of(child)
    assert {psutil.Process(pid).uids().real for pid in said["pids"]} == {user}
    assert (scratch / "data").stat().st_mode & 0o777 == 0o700
    state = read_state(scratch / "data")
    assert state is not None
    assert add_row(state.database_url) == 1
    child.kill()
    child.wait()
    wait_until(lambda: not any(alive(pid) for pid in said["pids"]), "both servers follow their parent")


def test_an_orphaned_valkey_does_not_share_its_file(scratch: Path) -> None:
    first = EmbeddedValkey(scratch / "vk")
    first.start()
    try:
        assert first.pid is not None
        # The lock is lost and the server lives on, as after a kill where nobody tells the servers.
        first._lock.release()
        with EmbeddedValkey(scratch / "vk") as second:
            assert not first.running
            assert second.url == first.url
    finally:
        first.stop()
