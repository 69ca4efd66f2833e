"""First loads: imports into an empty table, which need no staging table and may build the indexes last."""

from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import DictRow

from pattern_storage.storage import staging
from tests.fix_imports import Importing, make_plan, patterns, read_json_lines, stored_names, write_lines
from tests.fix_storage import Connection


@pytest.mark.parametrize("on_conflict", ["error", "skip", "update"])
async def test_a_first_load_goes_straight_into_the_table(
    importing: Importing, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_conflict: str
) -> None:
    created: list[Any] = []
    create = staging.create

    async def noted(connection: Any) -> None:
        created.append(connection)
        await create(connection)

    monkeypatch.setattr(staging, "create", noted)
    plan = make_plan(write_lines(tmp_path / "a.jsonl", patterns(3)), on_conflict=on_conflict)
    first = await importing(plan)
    assert (first.data["rows_inserted"], created) == (3, []), first.error
    second = await importing(make_plan(write_lines(tmp_path / "b.jsonl", patterns(2)), on_conflict=on_conflict))
    assert (second.data["rows_inserted"], len(created)) == (2, 1), second.error
    assert len(await stored_names(connection)) == 5


async def test_a_first_load_with_a_pattern_twice_is_read_again(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    """What its first reading has counted, rejected and written is forgotten."""
    one, two = patterns(2)
    path = write_lines(tmp_path / "a.jsonl", [one, {"rubbish": 1}, two, one | {"description": "last"}])
    result = await importing(make_plan(path, on_conflict="update", max_bad_rows=1))
    assert result.success, result.error
    counts = [result.data[f"rows_{what}"] for what in ("read", "inserted", "updated", "skipped", "rejected")]
    assert counts == [4, 2, 0, 1, 1]
    assert result.data["bytes"] == path.stat().st_size
    assert len(read_json_lines(Path(result.data["reject_file"]))) == 1
    cursor = await connection.execute("SELECT description FROM pattern_templates ORDER BY description NULLS FIRST")
    assert [row["description"] for row in await cursor.fetchall()][-1] == "last"


INDEXES = """
SELECT indexrelid AS id, pg_get_indexdef(indexrelid) AS definition, obj_description(indexrelid, 'pg_class') AS comment,
       ARRAY(SELECT attstattarget::int FROM pg_attribute WHERE attrelid = indexrelid ORDER BY attnum) AS statistics
FROM pg_index WHERE indrelid = 'pattern_templates'::regclass ORDER BY definition
"""


async def test_a_first_load_may_build_the_indexes_last(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    await connection.execute("COMMENT ON INDEX pattern_templates_tags IS 'It''s mine'")

    async def indexes() -> tuple[list[int], list[DictRow]]:
        rows = await (await connection.execute(INDEXES)).fetchall()
        return [row.pop("id") for row in rows], rows

    ids, before = await indexes()
    rows = patterns(30)
    twice = write_lines(tmp_path / "twice.jsonl", [*rows, rows[0]])
    refused = await importing(make_plan(twice, build_indexes_last=True))
    assert refused.metadata["error_type"] == "unique_violation"
    assert await indexes() == (ids, before), "it rolled back"
    source = write_lines(tmp_path / "once.jsonl", rows)
    loaded = await importing(make_plan(source, build_indexes_last=True))
    assert loaded.success, loaded.error
    ids_now, after = await indexes()
    assert after == before
    assert len(set(ids) - set(ids_now)) == len(ids) - 2, "all are new but those of the two keys"
    more = write_lines(tmp_path / "more.jsonl", patterns(40)[30:])
    assert (await importing(make_plan(more, build_indexes_last=True))).success
    assert (await indexes())[0] == ids_now, "no first load"
    assert len(await stored_names(connection)) == 40
