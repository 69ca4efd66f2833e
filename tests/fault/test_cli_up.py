"""`up`: one command that runs everything, and leaves nothing behind, however it ends."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pattern_storage.embedded import EmbeddedValkey, read_state
from tests.fix_cli import ABSENT_REDIS, PATTERN, Cli, Said, make_home, names_in
from tests.fix_flower import ask
from tests.fix_metrics import Scrape
from tests.fix_process import free_port, wait_until
from tests.fix_up import Running, Up
from tests.fix_user import other_python


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """One data directory for the tests that start and stop in turn: creating PostgreSQL takes a second."""
    path = make_home()
    yield path / "data"
    shutil.rmtree(path)


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Up]]:
    """Start `up` on a data directory; a failing test does not leave it running."""
    started: list[Running] = []

    def begin(data_dir: Path, *arguments: str, **options: Any) -> Up:
        up = Up(data_dir, *arguments, log=home / f"up-{len(started)}.log", **options)
        started.append(up)
        return up

    yield begin
    for running in started:
        running.end()


def insert(cli: Cli, name: str, **variables: Any) -> Said:
    return cli("insert", f"pattern_name={name}", *PATTERN, **variables)


def end_again_and_again(up: Up, service: str) -> None:
    """Kill a service each time it is started, until `up` ends because of that."""
    said = f"{service} has ended by itself and is started again"
    for time in range(1, 5):
        up.remember()
        up.member(service).kill()
        if time < 4:
            wait_until(lambda time=time: up.text.count(said) == time, f"{service} is started for time {time}")  # type: ignore[misc]
            wait_until(lambda: up.has(service), f"{service} runs")
    assert up.wait() == 3
    assert f"Error: {service} was started again 3 times, and has ended within 30 seconds each time;" in up.text
    assert up.text.count(said) == 3


def test_between_foreign_packages_until_ctrl_c(cli: Cli, start: Callable[..., Up], data_dir: Path, home: Path) -> None:
    # The folder of another project, which has packages of these names and a Celery of its own.
    for package in ("tasks", "storage", "config", "celery"):
        (home / "project" / package).mkdir(parents=True)
        (home / "project" / package / "__init__.py").write_text("raise SystemExit('the wrong package')")
    up = start(
        data_dir, "--flower-port", str(free_port()), flower=True, cwd=home / "project",
        CELERY_BROKER_URL=ABSENT_REDIS, CELERY_BROKER_READ_URL=ABSENT_REDIS, CELERY_RESULT_BACKEND=ABSENT_REDIS,
        FLOWER_PORT="1",
    ).ready()  # fmt: skip
    assert insert(cli, "first", **up.variables).code == 0
    assert up.count("first") == 1
    assert {"worker", "beat", "relay", "flower"} <= {word for member in up.members for word in member.cmdline()}

    # Flower lets in who has the address that was printed, and nobody else; no other user can read its password.
    address = str(up.state.values["flower_url"])
    assert f"\n{address}\n" in up.text, "80 columns hold it"
    login, place = address.removeprefix("http://").split("@")
    assert [ask(f"http://{place}", login=given).status for given in (login, None, "admin:wrong")] == [200, 401, 401]
    file = data_dir / "celery" / "flower-password"
    assert login == f"admin:{file.read_text().strip()}"
    assert file.stat().st_mode & 0o077 == 0
    assert login.split(":")[1] not in " ".join(word for member in up.members for word in member.cmdline())
    ports = re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", up.text)
    assert [Scrape(int(port)).value("up", server="postgresql") for port in ports] == [1, 1]

    # Each of its services is found healthy from another terminal.
    for service in ("worker", "relay", "beat", "flower"):
        assert cli("health", service, **up.variables).code == 0

    # A second one in the same directory is refused, and does not harm the first.
    second = cli("up", **up.variables)
    assert (second.code, second.out) == (2, "")
    assert f"Error: {data_dir} is in use by process {up.process.pid}" in second.error
    assert insert(cli, "second", **up.variables).code == 0

    up.signal(signal.SIGINT)
    assert up.wait() == 0
    up.leaves_nothing()
    assert up.text.endswith("stopping: running jobs finish first\nstopped\n")
    assert "Traceback" not in up.text
    assert read_state(data_dir) is None
    assert cli("query", **up.variables).code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells servers that their parent died")
def test_kill_9_leaves_nothing_and_the_next_up_has_the_data(cli: Cli, start: Callable[..., Up], data_dir: Path) -> None:
    up = start(data_dir).ready()
    assert insert(cli, "kept", **up.variables).code == 0
    up.remember()
    up.signal(signal.SIGKILL)
    up.wait()
    # Its state file is still there and names servers that are gone.
    assert (data_dir / "state.json").exists()
    said = cli("query", **up.variables)
    assert said.code == 2
    assert f"REDIS_URL is not set and no servers run in {data_dir}" in said.error
    up.leaves_nothing()

    # Something else has Flower's port now, if it is free at all; the password is still the same.
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 5555)))
        again = start(data_dir, flower=True).ready()
    address = str(again.state.values["flower_url"])
    assert not address.endswith(":5555/")
    assert f":{(data_dir / 'celery' / 'flower-password').read_text().strip()}@127.0.0.1:" in address
    assert again.count("kept") == 1
    assert insert(cli, "after", **again.variables).code == 0

    # A worker that dies again and again is no running system.
    end_again_and_again(again, "worker")
    assert "Traceback" not in again.text.split("the end of its log:")[0]
    again.leaves_nothing()
    assert read_state(data_dir) is None


def test_it_looks_after_what_it_started(cli: Cli, start: Callable[..., Up], data_dir: Path) -> None:
    up = start(data_dir, flower=True).ready()
    for name, words in (("flower", ["flower"]), ("Valkey", ["valkey"]), ("PostgreSQL", ["postgres"])):
        up.remember()
        up.child(*words).kill()
        up.wait_for(f"{name} has ended by itself and is started again")
        # All of the others go on, and what had ended answers again.
        wait_until(lambda name=name: insert(cli, f"after {name}", **up.variables).code == 0, f"{name} is back")  # type: ignore[misc]
        assert up.count(f"after {name}") >= 1
    for service in ("worker", "beat", "relay"):
        up.remember()
        up.member(service).kill()
        up.wait_for(f"{service} has ended by itself and is started again")
        wait_until(lambda service=service: cli("health", service, **up.variables).code == 0, f"{service} works")  # type: ignore[misc]
    assert insert(cli, "after the worker", **up.variables).code == 0
    address = str(up.state.values["flower_url"])
    login, place = address.removeprefix("http://").split("@")

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return ask(f"http://{place}", login=login).status == 200
        return False

    wait_until(answers, "Flower is back")
    up.signal(signal.SIGINT)
    assert up.wait() == 0
    up.leaves_nothing()


def test_with_servers_of_the_users_own(
    cli: Cli, start: Callable[..., Up], home: Path, empty_database_url: str, lone_valkey: EmbeddedValkey
) -> None:
    urls: dict[str, Any] = {"DATABASE_URL": empty_database_url, "REDIS_URL": lone_valkey.url}
    up = start(home / "data", **urls).ready()
    # It migrates, and starts Celery alone.
    assert insert(cli, "given", **urls).code == 0
    # From `-m celery -A pattern_storage beat ...` and `-m pattern_storage.tasks.cli relay`.
    words = [" ".join(member.cmdline()).split(" -m ")[1].replace("celery -A ", "").split() for member in up.members]
    assert {name for _, name, *_ in words} == {"worker", "beat", "relay"}
    assert names_in(home / "data") == ["celery", "stack.lock"]

    end_again_and_again(up, "beat")
    up.leaves_nothing()
    with_the_servers = cli("doctor", "--json", PATTERN_STORAGE_CONNECT_TIMEOUT="0.2", **urls)
    assert with_the_servers.code == 1, "the servers still run, without a worker"


def test_interrupted_while_it_starts(start: Callable[..., Up], data_dir: Path) -> None:
    up = start(data_dir)
    wait_until(lambda: (data_dir / "state.json").exists(), "the servers run")
    up.remember()
    up.signal(signal.SIGTERM)
    assert up.wait() == 130, "who waits for a system has none"
    up.leaves_nothing()
    assert up.text.endswith("stopped\n")
    assert "Traceback" not in up.text


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_as_an_ordinary_user_until_sigterm(start: Callable[..., Up], home: Path) -> None:
    user = pwd.getpwnam("daemon").pw_uid
    python, environment = other_python(user, home)
    (home / "own").mkdir()
    os.chown(home / "own", user, user)
    command = [python, "-c", "from pattern_storage.tasks.cli import main; main()"]
    environment |= {"HOME": str(home / "own"), "PATTERN_STORAGE_DATA_DIR": str(home / "own" / "data")}
    up = start(
        home / "own" / "data", command=command, user=user, environment=environment, cwd=home / "own"
    ).ready()  # fmt: skip
    assert {member.uids().real for member in up.members} == {user}
    assert (home / "own" / "data").stat().st_mode & 0o077 == 0

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, *arguments], user=user, extra_groups=[], env=environment, cwd=home / "own",
            capture_output=True, text=True,
        )  # fmt: skip

    inserted = run("insert", "pattern_name=mine", *PATTERN)
    assert inserted.returncode == 0, inserted.stderr
    found = run("query", "--name", "mine")
    assert found.returncode == 0
    assert found.stdout.startswith("1 found")
    up.remember()
    up.signal(signal.SIGTERM)
    assert up.wait() == 0
    up.leaves_nothing()
    assert up.text.endswith("stopped\n")
