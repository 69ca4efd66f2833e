"""Bad rows of imports: none is stored, the first twenty are named, and as many as allowed go into a file."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg import AsyncTransaction, OperationalError
from psycopg.pq import TransactionStatus

from pattern_storage.storage import NodePatternStorageEffect
from tests.fix_cli import names_in
from tests.fix_imports import Importing, make_plan, newest_run, patterns, read_json_lines, stored_names, write_lines
from tests.fix_storage import Connection, make_pattern, succeed


async def test_one_bad_row_at_the_end_stores_nothing(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "a.jsonl", [*patterns(5_000), make_pattern(confidence_score=2)])
    result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "bad_rows"
    assert str(result.error).startswith("1 bad row: line 5001: confidence_score should be less than or equal to 1")
    assert await stored_names(connection) == []
    run = await newest_run(connection)
    assert (run["state"], run["rows_read"], run["rows_inserted"]) == ("failed", 5_001, 0)


async def test_many_bad_rows_are_counted_and_the_first_twenty_told(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    rows = [make_pattern(usage_count=-1) if number % 2 else make_pattern() for number in range(100)]
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", rows)))
    assert str(result.error).startswith("50 bad rows: line 2: usage_count should be")
    assert [bad["line"] for bad in result.metadata["bad_rows"]] == list(range(2, 42, 2))
    assert result.metadata["more_bad_rows"] == 30
    assert await stored_names(connection) == []


async def test_some_bad_rows_may_be_allowed(importing: Importing, connection: Connection, tmp_path: Path) -> None:
    orphan = make_pattern(parent_pattern_id=str(uuid4()))
    path = write_lines(tmp_path / "a.jsonl", [make_pattern(), {"pattern_name": "x"}, orphan])
    with path.open("ab") as stream:
        stream.write(b"\xff rubbish\n")
    result = await importing(make_plan(path, max_bad_rows=3))
    assert result.success, result.error
    assert (result.data["rows_inserted"], result.data["rows_rejected"]) == (1, 3)
    assert (await newest_run(connection))["rows_rejected"] == 3
    rejected = Path(result.data["reject_file"])
    assert rejected.parent == tmp_path / "rejects" / "nightly"
    lines = read_json_lines(rejected)
    # The parents are looked up last.
    assert [line["line"] for line in lines] == [2, 4, 3]
    assert lines[0]["row"] == '{"pattern_name": "x"}'
    assert "is required" in lines[0]["reason"]
    assert lines[1]["row"] == "\\xff rubbish"
    assert lines[2]["row"]["pattern_name"] == orphan["pattern_name"]
    assert lines[2]["reason"] == f"parent_pattern_id {orphan['parent_pattern_id']} does not exist"
    [report] = read_json_lines(Path(str(rejected).replace(".rejected.jsonl", ".report.json")))
    assert (report["rejected"], report["max_bad_rows"], report["rows_inserted"]) == (3, 3, 1)
    assert report["source"] == str(path)

    fewer = await importing(make_plan(path, max_bad_rows=2, on_conflict="skip"))
    assert str(fewer.error).startswith("3 bad rows: line 2: ")
    assert len(names_in(rejected.parent)) == 2, "a run that fails leaves no files"


async def test_a_connection_that_is_lost_in_the_commit_leaves_the_reject_file(
    importing: Importing, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are stored, so the next attempt returns the result that names the file."""
    leave = AsyncTransaction.__aexit__

    async def lose(transaction: AsyncTransaction, *raised: Any) -> Any:
        left = await leave(transaction, *raised)
        if transaction.connection.info.transaction_status == TransactionStatus.IDLE:
            monkeypatch.undo()
            raise OperationalError("server closed the connection unexpectedly")
        return left

    monkeypatch.setattr(AsyncTransaction, "__aexit__", lose)
    plan, run_id = make_plan(write_lines(tmp_path / "a.jsonl", [make_pattern(), {}]), max_bad_rows=1), uuid4()
    lost = await importing(plan, run_id)
    assert lost.metadata.get("retryable") is True, lost
    assert len(await stored_names(connection)) == 1
    again = await importing(plan, run_id)
    assert again.metadata.get("replayed") is True
    assert len(read_json_lines(Path(again.data["reject_file"]))) == 1


async def test_a_reject_file_that_cannot_be_written(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    (tmp_path / "rejects").write_text("no folder")
    path = write_lines(tmp_path / "a.jsonl", [make_pattern(), {}])
    result = await importing(make_plan(path, max_bad_rows=1))
    assert result.metadata["error_type"] == "reject_file"
    assert "PATTERN_STORAGE_DATA_DIR" in str(result.error)
    assert await stored_names(connection) == []


async def test_parents(
    importing: Importing, connection: Connection, node: NodePatternStorageEffect, tmp_path: Path
) -> None:
    parent = await succeed(node, "insert", data=make_pattern())
    child = make_pattern(parent_pattern_id=parent["pattern_id"])
    assert (await importing(make_plan(write_lines(tmp_path / "a.jsonl", [child])))).success
    lost = make_pattern(parent_pattern_id=str(uuid4()))
    result = await importing(make_plan(write_lines(tmp_path / "b.jsonl", [make_pattern(), lost])))
    assert str(result.error) == f"1 bad row: line 2: parent_pattern_id {lost['parent_pattern_id']} does not exist"
    assert len(await stored_names(connection)) == 2
