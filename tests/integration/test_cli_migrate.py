"""`migrate` up and down, and URLs that no command takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
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


def test_a_database_of_a_newer_release(
    cli: Cli, doctor: Callable[..., Said], database_url: str, redis_url: str
) -> None:
    """Jobs go on, and the release that is installed can migrate it neither up nor down."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE pattern_storage_version SET version_num = 'pattern_storage_9999'")
    for arguments in ((), ("--down-to", "base")):
        said = cli("migrate", *arguments, DATABASE_URL=database_url)
        assert (said.code, said.out) == (2, "")
        assert said.error.startswith(
            "Error: the database is of a newer release: its schema is pattern_storage_9999, and"
        )
        assert said.error.endswith("install that release again")
    rows = {row["subject"]: row for row in doctor("--json", DATABASE_URL=database_url, REDIS_URL=redis_url).json}
    assert (rows["migrations"]["ok"], rows["jobs"]["ok"]) == (True, True)
    assert rows["migrations"]["found"].endswith("the database is of a newer release")
    assert "install that release again" in rows["migrations"]["advice"]
