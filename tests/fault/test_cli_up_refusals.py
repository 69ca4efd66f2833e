"""`up` that cannot start: one sentence and an exit code, with nothing created."""

from pathlib import Path
from typing import Any

import pytest

from tests.fix_cli import ABSENT_POSTGRES, ABSENT_REDIS, Cli, names_in


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "REDIS_URL"),
        ({"REDIS_URL": ABSENT_REDIS}, "DATABASE_URL"),
        ({"BROKER_URL": "amqp://127.0.0.1:1"}, "DATABASE_URL"),
        ({"RESULT_BACKEND_URL": ABSENT_REDIS}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x", "BROKER_URL": "amqp://127.0.0.1:1"}, "REDIS_URL"),
    ],
)
def test_some_servers_but_not_all(cli: Cli, home: Path, variables: dict[str, Any], missing: str) -> None:
    said = cli("up", PATTERN_STORAGE_DATA_DIR=str(home / "data"), **variables)
    assert (said.code, said.out) == (2, "")
    given = " and ".join(variables)
    assert said.error == (
        f"Error: {missing} is not set, but {given} {'are' if len(variables) > 1 else 'is'}:"
        f" set {missing} too, or unset {given} for the servers of 'pattern-storage up'"
    )
    assert names_in(home) == []


def test_given_servers_that_do_not_answer(cli: Cli, home: Path) -> None:
    said = cli(
        "up",
        PATTERN_STORAGE_DATA_DIR=str(home / "data"),
        DATABASE_URL=ABSENT_POSTGRES,
        REDIS_URL=ABSENT_REDIS,
    )
    assert said.code == 3
    assert "PostgreSQL" in said.error
    assert names_in(home / "data") == ["stack.lock"]


@pytest.mark.parametrize("given", [False, True])
def test_a_data_directory_that_cannot_be(cli: Cli, home: Path, database_url: str, given: bool) -> None:
    (home / "file").write_text("")
    urls: dict[str, Any] = {"DATABASE_URL": database_url, "REDIS_URL": ABSENT_REDIS} if given else {}
    said = cli("up", "--data-dir", str(home / "file" / "data"), **urls)
    assert said.code == 2
    assert said.err.startswith("Error: Cannot ")
    assert f"{home / 'file' / 'data'}" in said.error
    assert "Not a directory" in said.error
