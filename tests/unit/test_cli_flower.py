"""Flower's part in `up`: which port and password it gets, and what is printed of it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pattern_storage.config.settings import Settings
from pattern_storage.embedded import StackState, ports
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.state import LOCK_FILE, write_state
from pattern_storage.tasks.cli import flower
from pattern_storage.tasks.cli.exits import InputInvalid

pytestmark = pytest.mark.usefixtures("clean_variables")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Ports that other programs have."""
    found: set[int] = {5555}
    monkeypatch.setattr(flower, "is_free", lambda port: port not in found)
    return found


def test_the_default_port_gives_way_and_the_password_stays(tmp_path: Path, taken: set[int]) -> None:
    first = flower.with_login(Settings(), tmp_path, None)
    assert first.flower_port in ports.CANDIDATES
    taken.clear()
    second = flower.with_login(Settings(), tmp_path, None)
    assert second.flower_port == 5555
    assert first.flower_password == second.flower_password
    assert len(flower.variables(second)["PATTERN_STORAGE_FLOWER_PASSWORD"]) > 20


@pytest.mark.parametrize(("settings", "port"), [({}, 5555), ({"flower_port": 5555}, None)])
def test_a_port_that_was_asked_for_does_not(
    tmp_path: Path, taken: set[int], settings: dict[str, Any], port: int | None
) -> None:
    with pytest.raises(
        InputInvalid, match=r"port 5555 for Flower is taken .*--flower-port or PATTERN_STORAGE_FLOWER_P"
    ):
        flower.with_login(Settings(**settings), tmp_path, port)
    assert not list(tmp_path.iterdir())


def test_what_the_environment_says_is_used(tmp_path: Path, taken: set[int]) -> None:
    taken.clear()
    given = Settings(flower_password="correct-horse", flower_port=6000)
    found = flower.with_login(given, tmp_path, None)
    assert flower.variables(found) == {
        "PATTERN_STORAGE_FLOWER_PORT": "6000", "PATTERN_STORAGE_FLOWER_PASSWORD": "correct-horse",
    }  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_the_flower_of_a_running_up(tmp_path: Path) -> None:
    """It is found with its login, wherever it had to listen."""
    url = flower.address(
        Settings(flower_port=6000, flower_user="a/b", flower_password="p@ss/w0rd", flower_url_prefix="x"), login=True
    )
    write_state(tmp_path, StackState(1, "postgresql://", "redis://", datetime.now(UTC), {"flower_url": url}))
    settings = Settings(data_dir=tmp_path)
    assert flower.of_running_up(settings) == settings
    lock = DirectoryLock(tmp_path / LOCK_FILE)
    lock.acquire()
    try:
        assert flower.address(flower.of_running_up(settings), login=True) == url
        given = Settings(data_dir=tmp_path, flower_password="correct-horse")
        assert flower.of_running_up(given) == given
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "http://admin:p%40ss%2Fw0rd@127.0.0.1:5555/"),
        ({"flower_address": "0.0.0.0", "flower_port": 80}, "http://admin:p%40ss%2Fw0rd@127.0.0.1:80/"),
        ({"flower_address": "::", "flower_user": "a/b"}, "http://a%2Fb:p%40ss%2Fw0rd@[::1]:5555/"),
        ({"flower_address": "jobs.example"}, "http://admin:p%40ss%2Fw0rd@jobs.example:5555/"),
    ],
)
def test_the_address(given: dict[str, Any], says: str) -> None:
    settings = Settings(flower_password="p@ss/w0rd", **given)
    assert flower.address(settings, login=True) == says
    assert flower.address(settings) == f"http://{says.split('@')[1]}"
