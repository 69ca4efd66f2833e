"""The parts of pattern_storage.embedded that need no server."""

import os
import socket
import stat
from pathlib import Path

import pytest

from pattern_storage.embedded import EmbeddedError, StackAlreadyRunning, read_state
from pattern_storage.embedded.account import Account, server_account
from pattern_storage.embedded.cluster import _major_version
from pattern_storage.embedded.files import make_directory, read_or_create_secret, write_private
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.log import ServerLog
from pattern_storage.embedded.ports import CANDIDATES, port_for

US = Account(os.geteuid(), os.getegid(), switched=False)
STRANGER = Account(54321, 54321, switched=True)


def test_a_lock_is_held_by_one_and_named_by_number(tmp_path: Path) -> None:
    file = tmp_path / "a.lock"
    first, second = DirectoryLock(file), DirectoryLock(file)
    assert not DirectoryLock.is_taken(file)
    first.acquire()
    first.acquire()
    assert (first.held, second.held, DirectoryLock.is_taken(file)) == (True, False, True)
    with pytest.raises(StackAlreadyRunning, match=f"in use by process {os.getpid()}:") as refusal:
        second.acquire()
    assert refusal.value.pid == os.getpid()
    first.release()
    first.release()
    assert not DirectoryLock.is_taken(file)
    second.acquire()
    second.release()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_holder_without_a_number(tmp_path: Path) -> None:
    assert "in use by another process:" in str(StackAlreadyRunning(tmp_path, None))


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmbeddedError, match=r"^Cannot open .*a\.lock"):
        DirectoryLock(tmp_path / "a.lock").acquire()
    with pytest.raises(EmbeddedError, match=r"^Cannot read .*a\.lock"):
        DirectoryLock.is_taken(tmp_path / "a.lock")


def test_a_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    file = tmp_path / "port"
    port = port_for(file)
    assert port in CANDIDATES
    assert port_for(file) == port
    assert port_for(file, keep=False) != port
    port = port_for(file)
    with socket.create_server(("127.0.0.1", port)):
        assert port_for(file) != port


@pytest.mark.parametrize("content", ["", "many", "0", "70000"])
def test_a_damaged_port_file_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "port").write_text(content)
    assert port_for(tmp_path / "port") in CANDIDATES


def test_no_free_port_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pattern_storage.embedded.ports.is_free", lambda port: False)
    with pytest.raises(EmbeddedError, match=r"^Found no free TCP port on 127\.0\.0\.1"):
        port_for(tmp_path / "port")


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_password_is_made_once(tmp_path: Path) -> None:
    password = read_or_create_secret(tmp_path / "password")
    assert len(password) >= 32
    assert read_or_create_secret(tmp_path / "password") == password
    assert read_or_create_secret(tmp_path / "other") != password


def test_the_first_closed_directory_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    tmp_path.chmod(0o755)
    (tmp_path / "outer").chmod(0o700)
    # pytest's own directory may be closed as well, which is further out.
    assert STRANGER.first_closed_directory(inner) in {tmp_path / "outer", *tmp_path.parents}
    assert US.first_closed_directory(inner) is None
    assert US.can_run(inner)
    assert not STRANGER.can_run(inner / "program")


def test_our_own_directories_are_closed(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b", US, ours="x.lock")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700, 0o700]


def test_root_needs_a_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", missing)
    with pytest.raises(EmbeddedError, match=r"^PostgreSQL refuses to run as root .* no user `nobody`"):
        server_account()


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ("postgres (PostgreSQL) 18.6", 18),
        ("postgres (PostgreSQL) 17.5 (Debian 17.5-1.pgdg120+1)", 17),
        ("postgres (PostgreSQL) 19beta1", 19),
        ("something else", 0),
    ],
)
def test_the_version_of_a_postgres_on_path(tmp_path: Path, answer: str, version: int) -> None:
    program = tmp_path / "postgres"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    assert _major_version(program) == version


def test_a_log_shows_the_end_of_the_last_start_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ServerLog(tmp_path / "server.log")
    assert log.tail() == ""
    for start in ("first", "second"):
        with log.open() as file:
            file.writelines(f"{start} {number}\n" for number in range(20))
    assert log.tail().splitlines() == [f"second {number}" for number in range(8, 20)]
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    monkeypatch.setattr("pattern_storage.embedded.log.LIMIT", 10)
    with log.open():
        assert log.tail() == ""
    assert "first 0" in (tmp_path / "server.log.1").read_text()


def test_no_stack_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path / "nowhere") is None
    (tmp_path / "state.json").write_text("{}")
    assert read_state(tmp_path) is None
    lock = DirectoryLock(tmp_path / "stack.lock")
    lock.acquire()
    (tmp_path / "state.json").unlink()
    assert read_state(tmp_path) is None, "one that starts has none yet"
    lock.release()
