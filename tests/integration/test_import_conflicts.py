"""Imports of patterns that exist already, or stand twice in the source, under each `on_conflict`."""

from pathlib import Path

import pytest

from pattern_storage.storage import NodePatternStorageEffect
from tests.fix_imports import Importing, make_plan, newest_run, patterns, stored_names, write_lines
from tests.fix_storage import Connection, make_pattern, succeed


@pytest.mark.parametrize("on_conflict", ["error", "skip", "update"])
async def test_new_rows(importing: Importing, connection: Connection, tmp_path: Path, on_conflict: str) -> None:
    rows = patterns(30)
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", rows), on_conflict=on_conflict))
    assert result.success, result.error
    assert sorted(await stored_names(connection)) == sorted(row["pattern_name"] for row in rows)
    run = await newest_run(connection)
    assert (run["state"], run["rows_read"], run["rows_inserted"], run["rows_updated"]) == ("done", 30, 30, 0)
    assert run["started_at"] <= run["finished_at"]
    assert run["bytes"] == (tmp_path / "a.jsonl").stat().st_size
    assert result.data["source_version"] == run["source_version"]
    assert result.metadata["operation"] == "import"


async def test_conflict_error_writes_nothing_and_names_the_rows(
    importing: Importing, connection: Connection, node: NodePatternStorageEffect, tmp_path: Path
) -> None:
    rows = patterns(25)
    for row in rows[2:24]:
        await succeed(node, "insert", data=row)
    before = await stored_names(connection)
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", rows)))
    assert not result.success
    assert result.metadata["error_type"] == "unique_violation"
    assert str(result.error).startswith(f"22 bad rows: line 3: Pattern already exists: {rows[2]['pattern_name']} (")
    assert str(result.error).endswith("; and 2 more")
    assert len(result.metadata["bad_rows"]) == 20
    assert result.metadata["more_bad_rows"] == 2
    assert await stored_names(connection) == before
    run = await newest_run(connection)
    assert (run["state"], run["error_type"], run["error"]) == ("failed", "unique_violation", result.error)


async def test_conflict_skip_leaves_what_is_there(
    importing: Importing, connection: Connection, node: NodePatternStorageEffect, tmp_path: Path
) -> None:
    old, new = make_pattern(category="old"), make_pattern()
    await succeed(node, "insert", data=old)
    rows = [old | {"category": "new"}, new, new | {"category": "second"}]
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", rows), on_conflict="skip"))
    assert (result.data["rows_inserted"], result.data["rows_skipped"]) == (1, 2)
    cursor = await connection.execute("SELECT category FROM pattern_templates ORDER BY created_at")
    assert [row["category"] for row in await cursor.fetchall()] == ["old", None], "of two rows the first counts"


async def test_conflict_update_changes_the_columns_of_the_source_and_what_differs(
    importing: Importing, connection: Connection, node: NodePatternStorageEffect, tmp_path: Path
) -> None:
    kept, changed = make_pattern(usage_count=5, category="a"), make_pattern(usage_count=6, category="a")
    for data in (kept, changed):
        await succeed(node, "insert", data=data)
    rows = [
        make_pattern(category="first"),
        {**kept, "category": "a"},
        {**changed, "category": "b", "tags": ["x"]},
    ]
    for row in rows[1:]:
        del row["usage_count"]
    rows.append({**rows[0], "category": "last"})
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", rows), on_conflict="update"))
    assert result.success, result.error
    counts = [result.data[f"rows_{what}"] for what in ("inserted", "updated", "skipped")]
    # Skipped: the first of two rows with one key, and the one that says what is there already.
    assert counts == [1, 1, 2]
    cursor = await connection.execute(
        "SELECT category, usage_count, tags, updated_at > created_at AS touched FROM pattern_templates"
        " ORDER BY created_at"
    )
    assert [tuple(row.values()) for row in await cursor.fetchall()] == [
        ("a", 5, [], False),
        ("b", 6, ["x"], True),
        ("last", 0, [], False),
    ]


async def test_the_same_key_twice_is_an_error_that_names_both_lines(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    rows = patterns(3)
    write_lines(tmp_path / "a.jsonl", [*rows, rows[1]])
    write_lines(tmp_path / "b.jsonl", [make_pattern(), rows[2]])
    result = await importing(make_plan(f"{tmp_path}/*.jsonl"))
    assert result.metadata["error_type"] == "unique_violation"
    first, second = result.metadata["bad_rows"]
    assert first["line"] == 4
    assert first["reason"].endswith("(function/python), first in line 2")
    assert (second["file"], second["line"]) == (f"{tmp_path}/b.jsonl", 2)
    assert second["reason"].endswith(f", first in {tmp_path}/a.jsonl line 3")
    assert await stored_names(connection) == []
