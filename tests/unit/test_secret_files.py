"""Secrets come from files where no variable says otherwise, and every mistake is one sentence."""

from pathlib import Path

import pytest

from pattern_storage.config.settings import SettingsInvalid, load_settings

VARIABLE = "PATTERN_STORAGE_SECRETS_DIR"
DATABASE = "postgresql://service:secret@host/patterns"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "REDIS_URL", "BROKER_URL", "RESULT_BACKEND_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "database_url").write_text(f"{DATABASE}\n")
    return tmp_path


def test_a_file_is_read_without_its_last_line_break(folder: Path) -> None:
    (folder / "sentinel_password").write_text(" spaces are part of it \r\n")
    settings = load_settings()
    assert settings.database == DATABASE
    assert settings.sentinel_password is not None
    assert settings.sentinel_password.get_secret_value() == " spaces are part of it "
    assert settings.secrets_dir == folder


def test_a_byte_order_mark(folder: Path) -> None:
    (folder / "database_url").write_bytes(b"\xef\xbb\xbf" + DATABASE.encode())
    assert load_settings().database == DATABASE


def test_a_variable_wins_and_an_argument_over_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql:///variable")
    assert load_settings().database == "postgresql:///variable"
    assert load_settings(database_url="postgresql:///argument").database == "postgresql:///argument"


def test_files_of_others_are_left_alone(folder: Path) -> None:
    """As in Docker's and Kubernetes' own folders."""
    (folder / "tls.key").write_bytes(b"\xff\xfe")
    (folder / "kubernetes.io").mkdir()
    (folder / "owner_database_url").write_text("another's")
    assert load_settings().database == DATABASE


def refused() -> str:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    return str(caught.value)


def test_a_misspelt_file(folder: Path) -> None:
    (folder / "databse_url").write_text("x")
    assert refused() == f"{VARIABLE} has a file databse_url, but there is no such setting; did you mean database_url?"


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "redis_url").write_bytes(b"\xff")
    assert refused() == f"{VARIABLE} has a file redis_url that cannot be read: it is not UTF-8"


def test_no_such_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nonexistent")
    assert "/nonexistent, which cannot be read (No such file or directory)" in refused()


def test_a_wrong_value_in_a_file_is_not_repeated(folder: Path) -> None:
    (folder / "database_url").write_text("mysql://user:secret@host/db")
    assert refused().startswith("DATABASE_URL has the scheme 'mysql'")
    assert "secret" not in refused()
