"""`migrate` up and down, and URLs that no command takes."""

from pathlib import Path
from typing import Any

import pytest

from pattern_storage.storage import schema
from tests.fix_cli import ABSENT_POSTGRES, ABSENT_REDIS, Cli, Said


@pytest.mark.parametrize(
    ("variable", "url", "says"),
    [
        ("DATABASE_URL", "postgresql://u:pa55@127.0.0.1:1/x?foo=bar", "has the parameter 'foo'"),
        ("DATABASE_URL", "postgresql://u:pa55@127.0.0.1:1/x?sslmode=bogus", "cannot be used: invalid sslmode value"),
        ("REDIS_URL", "redis://:pa55@127.0.0.1:1/0?foo=bar", "has the parameter 'foo'"),
        ("REDIS_URL", "redis://:pa55@127.0.0.1:1/abc", "has the database 'abc'"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [("doctor",), ("relay",), ("query",), ("dead-letters", "list"), ("health", "worker"), ("up",), ("migrate",)],
    ids=" ".join,
)
def test_a_wrong_url_is_bad_input_to_every_command(
    cli: Cli, command: tuple[str, ...], variable: str, url: str, says: str, tmp_path: Path
) -> None:
    urls: dict[str, Any] = {"DATABASE_URL": ABSENT_POSTGRES, "REDIS_URL": ABSENT_REDIS} | {variable: url}
    # `up` locks its folder first, and root could create the one that is absent.
    urls["PATTERN_STORAGE_DATA_DIR"] = str(tmp_path)
    said = cli(*command, **urls)
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert said.err.startswith(f"Error: {variable} {says}")
    assert "pa55" not in said.err


def test_migrate_up_and_down(cli: Cli, empty_database_url: str) -> None:
    url: dict[str, Any] = {"DATABASE_URL": empty_database_url}
    head = schema.head()
    assert cli("migrate", **url) == Said(0, f"schema: empty -> {head}\n", "")
    assert cli("migrate", **url) == Said(0, f"schema: {head}, already up to date\n", "")
    said = cli("migrate", "--down-to", "nonsense", **url)
    assert (said.code, said.out) == (2, "")
    assert said.error.startswith("Error: The schema cannot go back to revision 'nonsense'; it should be an earlier one")
    assert said.error.endswith(f"{head}, or 'base'")
    assert cli("migrate", "--down-to", "-99", **url).code == 2
    assert schema.current(empty_database_url) == head
    assert cli("migrate", "--down-to", "base", **url) == Said(0, f"schema: {head} -> empty\n", "")
    assert cli("migrate", "--down-to", "base", **url) == Said(0, "schema: empty -> empty\n", "")
    assert cli("migrate", **url).code == 0
