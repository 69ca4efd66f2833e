"""Named blocks of SQL: all there, each used, and none built from anybody's text."""

import re
from pathlib import Path

import pytest

from pattern_storage import storage
from pattern_storage.storage import sql
from pattern_storage.storage.operations import OPERATIONS
from pattern_storage.storage.operations.query_params import QueryParams

FOLDER = Path(sql.__file__).parent


def names() -> list[str]:
    """Every name in the .sql files."""
    texts = (file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.sql")))
    return [name for text in texts for name in re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)]


def test_every_filter_has_its_block_and_every_filter_block_its_filter() -> None:
    filters = set(QueryParams.model_fields) - {"order_by", "descending", "limit", "cursor"}
    blocks = {name.removeprefix("where_") for name in names() if name.startswith("where_")}
    assert blocks == filters | {"beyond"}


def test_every_other_block_is_used() -> None:
    folder = Path(storage.__file__).parent
    sources = "".join(file.read_text(encoding="utf-8") for file in (*folder.rglob("*.py"), *FOLDER.glob("*.sql")))
    unused = [
        name
        for name in names()
        if not name.startswith("where_") and f'block("{name}")' not in sources and f"{{{{{name}}}}}" not in sources
    ]
    assert unused == []


def test_a_block_is_its_statement_without_comments() -> None:
    for name in names():
        text = sql.block(name)
        assert text
        assert "--" not in text
        assert "{{" not in text
        assert text == text.strip()
    assert sql.block("where_id") == "id = %(id)s"


def test_no_two_blocks_differ_only_in_their_parameters() -> None:
    """One of them would be forgotten in a change."""
    parameter = re.compile(r"ANY \((?:\$\d|%\(\w+\)s)(?:::\w+\[\])?\)|\$\d+|%\(\w+\)s")
    texts: dict[str, str] = {}
    twins = [
        (name, twin)
        for name in names()
        if (
            twin := texts.setdefault(" ".join(re.sub(r"= ?\?", "?", parameter.sub("?", sql.block(name))).split()), name)
        )
        != name
    ]
    assert twins == []


def test_an_unknown_block() -> None:
    with pytest.raises(KeyError, match="nothing"):
        sql.block("nothing")


def test_a_name_that_stands_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.sql").write_text("-- A file.\n-- name: one\n-- Says why.\nSELECT 1\n", encoding="utf-8")
    monkeypatch.setattr(sql, "files", lambda _: tmp_path)
    assert sql._blocks.__wrapped__() == {"one": "SELECT 1"}
    (tmp_path / "c.sql").write_text("-- name: two\n-- Two.\n({{three}})\n-- name: three\n{{one}}, 3", encoding="utf-8")
    assert sql._blocks.__wrapped__() == {"one": "SELECT 1", "two": "(SELECT 1, 3)", "three": "SELECT 1, 3"}
    (tmp_path / "b.sql").write_text("-- name: one\nSELECT 2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"SQL block 'one' is defined twice, the second time in [ab]\.sql"):
        sql._blocks.__wrapped__()


def test_the_operations() -> None:
    assert list(OPERATIONS) == ["insert", "update", "delete", "batch_insert", "query"]
