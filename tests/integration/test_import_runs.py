"""Runs of imports: all rows or none, once, by every policy; and sources that change, vanish or are on the web."""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from pattern_storage.storage import ModelResult, NodePatternStorageEffect, import_runs, ledger, staging
from pattern_storage.storage.errors import ServerUnavailable
from pattern_storage.tasks.imports.run import monitor as monitor_module
from pattern_storage.tasks.imports.run.execution import RunExecutor, RunLocked
from pattern_storage.tasks.imports.run.progress import Progress
from pattern_storage.tasks.imports.run.transfer import Transfer
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.worker.last_failure import LastFailure
from pattern_storage.vocabulary import ErrorType
from tests.fix_cli import names_in
from tests.fix_imports import Importing, make_plan, patterns, write_lines
from tests.fix_storage import Pool, make_pattern, succeed, until

Db = AsyncConnection[DictRow]


async def names(connection: Db) -> list[str]:
    cursor = await connection.execute("SELECT pattern_name FROM pattern_templates ORDER BY created_at, pattern_name")
    return [row["pattern_name"] for row in await cursor.fetchall()]


async def the_run(connection: Db) -> DictRow:
    """Return the newest run."""
    cursor = await connection.execute("SELECT * FROM import_runs ORDER BY queued_at DESC LIMIT 1")
    row = await cursor.fetchone()
    assert row
    return row


def read_json_lines(path: Path) -> list[Any]:
    """Return the documents of a file, one a line or one alone."""
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if text.count("\n}") == 0 else [json.loads(text)]


# --- what becomes of rows ---


@pytest.mark.parametrize("on_conflict", ["error", "skip", "update"])
async def test_new_rows(importing: Importing, connection: Db, tmp_path: Path, on_conflict: str) -> None:
    rows = patterns(30)
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", rows), on_conflict=on_conflict))
    assert result.success, result.error
    assert sorted(await names(connection)) == sorted(row["pattern_name"] for row in rows)
    run = await the_run(connection)
    assert (run["state"], run["rows_read"], run["rows_inserted"], run["rows_updated"]) == ("done", 30, 30, 0)
    assert run["started_at"] <= run["finished_at"]
    assert run["bytes"] == (tmp_path / "a.jsonl").stat().st_size
    assert result.data["source_version"] == run["source_version"]
    assert result.metadata["operation"] == "import"


async def test_conflict_error_writes_nothing_and_names_the_rows(
    importing: Importing, connection: Db, node: NodePatternStorageEffect, tmp_path: Path
) -> None:
    rows = patterns(25)
    for row in rows[2:24]:
        await succeed(node, "insert", data=row)
    before = await names(connection)
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", rows)))
    assert not result.success
    assert result.metadata["error_type"] == "unique_violation"
    assert str(result.error).startswith(f"22 bad rows: line 3: Pattern already exists: {rows[2]['pattern_name']} (")
    assert str(result.error).endswith("; and 2 more")
    assert len(result.metadata["bad_rows"]) == 20
    assert result.metadata["more_bad_rows"] == 2
    assert await names(connection) == before
    run = await the_run(connection)
    assert (run["state"], run["error_type"], run["error"]) == ("failed", "unique_violation", result.error)


async def test_conflict_skip_leaves_what_is_there(
    importing: Importing, connection: Db, node: NodePatternStorageEffect, tmp_path: Path
) -> None:
    old, new = make_pattern(category="old"), make_pattern()
    await succeed(node, "insert", data=old)
    rows = [old | {"category": "new"}, new, new | {"category": "second"}]
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", rows), on_conflict="skip"))
    assert (result.data["rows_inserted"], result.data["rows_skipped"]) == (1, 2)
    cursor = await connection.execute("SELECT category FROM pattern_templates ORDER BY created_at")
    assert [row["category"] for row in await cursor.fetchall()] == ["old", None], "of two rows the first counts"


async def test_conflict_update_changes_the_columns_of_the_source_and_what_differs(
    importing: Importing, connection: Db, node: NodePatternStorageEffect, tmp_path: Path
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
    importing: Importing, connection: Db, tmp_path: Path
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
    assert await names(connection) == []


async def test_one_bad_row_at_the_end_stores_nothing(importing: Importing, connection: Db, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [*patterns(5_000), make_pattern(confidence_score=2)])
    result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "bad_rows"
    assert str(result.error).startswith("1 bad row: line 5001: confidence_score should be less than or equal to 1")
    assert await names(connection) == []
    run = await the_run(connection)
    assert (run["state"], run["rows_read"], run["rows_inserted"]) == ("failed", 5_001, 0)


async def test_many_bad_rows_are_counted_and_the_first_twenty_told(
    importing: Importing, connection: Db, tmp_path: Path
) -> None:
    rows = [make_pattern(usage_count=-1) if number % 2 else make_pattern() for number in range(100)]
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", rows)))
    assert str(result.error).startswith("50 bad rows: line 2: usage_count should be")
    assert [bad["line"] for bad in result.metadata["bad_rows"]] == list(range(2, 42, 2))
    assert result.metadata["more_bad_rows"] == 30
    assert await names(connection) == []


async def test_some_bad_rows_may_be_allowed(importing: Importing, connection: Db, tmp_path: Path) -> None:
    orphan = make_pattern(parent_pattern_id=str(uuid4()))
    path = write_lines(tmp_path / "a.jsonl", [make_pattern(), {"pattern_name": "x"}, orphan])
    with path.open("ab") as stream:
        stream.write(b"\xff rubbish\n")
    result = await importing(make_plan(path, max_bad_rows=3))
    assert result.success, result.error
    assert (result.data["rows_inserted"], result.data["rows_rejected"]) == (1, 3)
    assert (await the_run(connection))["rows_rejected"] == 3
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


async def test_a_reject_file_that_cannot_be_written(importing: Importing, connection: Db, tmp_path: Path) -> None:
    (tmp_path / "rejects").write_text("no folder")
    path = write_lines(tmp_path / "a.jsonl", [make_pattern(), {}])
    result = await importing(make_plan(path, max_bad_rows=1))
    assert result.metadata["error_type"] == "reject_file"
    assert "PATTERN_STORAGE_DATA_DIR" in str(result.error)
    assert await names(connection) == []


async def test_parents(importing: Importing, connection: Db, node: NodePatternStorageEffect, tmp_path: Path) -> None:
    parent = await succeed(node, "insert", data=make_pattern())
    child = make_pattern(parent_pattern_id=parent["pattern_id"])
    assert (await importing(make_plan(write_lines(tmp_path / "a.jsonl", [child])))).success
    lost = make_pattern(parent_pattern_id=str(uuid4()))
    result = await importing(make_plan(write_lines(tmp_path / "b.jsonl", [make_pattern(), lost])))
    assert str(result.error) == f"1 bad row: line 2: parent_pattern_id {lost['parent_pattern_id']} does not exist"
    assert len(await names(connection)) == 2


async def test_a_dry_run_does_everything_and_leaves_nothing(
    importing: Importing, connection: Db, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "a.jsonl", [*patterns(10), {}])
    result = await importing(make_plan(path, max_bad_rows=1), dry_run=True)
    assert (result.success, result.data["rows_inserted"], result.data["rows_rejected"]) == (True, 10, 1)
    assert await names(connection) == []
    assert names_in(tmp_path / "rejects" / "nightly") == []
    cursor = await connection.execute("SELECT (SELECT count(*) FROM import_runs) + (SELECT count(*) FROM job_ledger)")
    assert await cursor.fetchone() == {"?column?": 0}


# --- once ---


async def test_the_same_run_again_answers_with_its_recorded_result(
    importing: Importing, connection: Db, tmp_path: Path
) -> None:
    plan, run_id = make_plan(write_lines(tmp_path / "a.jsonl", patterns(3)), on_conflict="update"), uuid4()
    first = await importing(plan, run_id)
    (tmp_path / "a.jsonl").unlink()
    again = await importing(plan, run_id)
    assert again.metadata.pop("replayed") is True
    assert again == first
    failing = uuid4()
    first = await importing(plan, failing)
    assert first.metadata["error_type"] == "source_missing"
    write_lines(tmp_path / "a.jsonl", patterns(1))
    again = await importing(plan, failing)
    assert again.metadata.pop("replayed") is True
    assert again == first, "a permanent failure is decided once as well"
    assert (await the_run(connection))["state"] == "failed"


class Gate:
    """Holds runs up where they call a method of their source: in their transaction, when all rows are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str = "check_unchanged") -> None:
        self.reached, self.open = threading.Semaphore(0), threading.Event()
        original = getattr(Source, method)

        def held_up(source: Source) -> Any:
            self.reached.release()
            assert self.open.wait(60)
            return original(source)

        monkeypatch.setattr(Source, method, held_up)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.acquire, timeout=60)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.open.set()


async def test_runs_of_one_import_never_overlap(
    importing: Importing, connection: Db, tmp_path: Path, gate: Gate
) -> None:
    plan, run_id = make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))), uuid4()
    first = asyncio.create_task(importing(plan, run_id))
    await gate.wait()
    with pytest.raises(RunLocked):
        await importing(plan, run_id)
    second = await importing(plan)
    assert second.metadata["error_type"] == "import_overlap"
    assert second.error == "another run of 'nightly' has not ended yet"
    elsewhere = write_lines(tmp_path / "b.jsonl", patterns(3))
    other = asyncio.create_task(importing(make_plan(elsewhere, name="other")))
    await gate.wait()
    gate.open.set()
    assert (await first).success
    assert (await other).success
    cursor = await connection.execute("SELECT state, count(*) FROM import_runs GROUP BY 1 ORDER BY 1")
    assert [tuple(row.values()) for row in await cursor.fetchall()] == [("done", 2), ("overlapped", 1)]


async def test_no_transaction_is_open_while_the_source_is_looked_at(
    importing: Importing, connection: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding and hashing may take hours; the run is not published again meanwhile, and done once."""
    monkeypatch.setattr(monitor_module, "INTERVAL", 0.01)
    gate = Gate(monkeypatch, "version")
    plan, run_id = make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))), uuid4()
    twice = [asyncio.create_task(importing(plan, run_id, delay=0.05)) for _ in range(2)]
    await gate.wait()
    await gate.wait()
    cursor = await connection.execute(
        "SELECT query FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        # Statements of the monitor, each a transaction of a moment.
        " AND query NOT LIKE '%ledger%' AND query NOT LIKE '%publish_after%' AND query NOT LIKE '%import_progress%'"
    )
    assert await cursor.fetchall() == []
    postponed = (await the_run(connection))["publish_after"]
    async with asyncio.timeout(60):
        while (await the_run(connection))["publish_after"] <= postponed:
            pass
    gate.open.set()
    ended = await asyncio.gather(*twice, return_exceptions=True)
    done = [result for result in ended if isinstance(result, ModelResult)]
    assert all(result.success for result in done), done
    assert [result for result in ended if not isinstance(result, ModelResult | RunLocked)] == []
    assert len([result for result in done if not result.metadata.get("replayed")]) == 1
    assert len(await names(connection)) == 3


@pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "transaction_timeout"])
async def test_limits_of_the_server_on_transactions(
    importing: Importing, connection: Db, pool: Pool, tmp_path: Path, gate: Gate, limit: str
) -> None:
    """A source that is slow in mid-transaction is not the user's other transactions, which these are for."""
    async with pool.connection() as connected:
        database = connected.info.dbname
    if not await (await connection.execute("SELECT name FROM pg_settings WHERE name = %s", [limit])).fetchone():
        pytest.skip(f"{limit} is not known to this PostgreSQL")
    await connection.execute(f'ALTER DATABASE "{database}" SET {limit} = 500')
    for backend in await (
        await connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    ).fetchall():
        await connection.execute("SELECT pg_terminate_backend(%s)", [backend["pid"]])
    await pool.check()
    try:
        run = asyncio.create_task(importing(make_plan(write_lines(tmp_path / "a.jsonl", patterns(3)))))
        await gate.wait()
        async with asyncio.timeout(60):
            while not await (
                await connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'"
                    " AND now() - state_change > interval '1 second'"
                )
            ).fetchone():
                assert not run.done(), run.result()
                await asyncio.sleep(0.01)
        gate.open.set()
        result = await run
        assert result.success, result.error
    finally:
        await connection.execute(f'ALTER DATABASE "{database}" RESET {limit}')


@pytest.mark.parametrize("on_conflict", ["error", "skip", "update"])
async def test_a_first_load_goes_straight_into_the_table(
    importing: Importing, connection: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_conflict: str
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
    assert len(await names(connection)) == 5


async def test_a_first_load_with_a_pattern_twice_is_read_again(
    importing: Importing, connection: Db, tmp_path: Path
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


async def test_a_first_load_may_build_the_indexes_last(importing: Importing, connection: Db, tmp_path: Path) -> None:
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
    assert len(await names(connection)) == 40


async def test_the_ledger_row_commits_with_the_rows_or_not_at_all(
    importing: Importing, connection: Db, tmp_path: Path
) -> None:
    """A commit that fails leaves no success in the ledger, whoever asks, and the next attempt writes the rows."""
    await connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no commit today' USING ERRCODE = 'serialization_failure'; END $$"
    )
    await connection.execute(
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON pattern_templates DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    plan, run_id = make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))), uuid4()
    try:
        result = await importing(plan, run_id)
        assert (result.success, result.metadata.get("retryable")) == (False, True), result.error
        assert await ledger.find(connection, run_id) is None
        assert (await the_run(connection))["finished_at"] is None
    finally:
        await connection.execute("DROP FUNCTION refuse CASCADE")
    again = await importing(plan, run_id)
    assert (again.success, again.metadata.get("replayed")) == (True, None)
    assert len(await names(connection)) == 3


async def test_a_host_that_vanishes_is_noticed(
    importing: Importing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These settings are in force in the run's own transaction."""
    transfer, seen = Transfer.run, dict[str, str]()

    async def look(self: Transfer, connection: Any, *, force: bool) -> str:
        cursor = await connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp%' OR name = 'client_connection_check_interval'"
        )
        seen.update(await cursor.fetchall())
        return await transfer(self, connection, force=force)

    monkeypatch.setattr(Transfer, "run", look)
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))))
    assert result.success, result.error
    assert seen == {
        "client_connection_check_interval": "5000",
        "tcp_keepalives_count": "3",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_user_timeout": "30000",
    }


async def test_a_cancelled_run_rolls_back(
    importing: Importing, connection: Db, pool: Pool, tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_module, "INTERVAL", 0.05)
    run_id = uuid4()
    running = asyncio.create_task(importing(make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))), run_id))
    await gate.wait()
    async with pool.connection() as other:
        assert (await ledger.cancel(other, run_id)).metadata["error_type"] == "revoked"
    result = await running
    assert result.metadata["error_type"] == "revoked"
    assert (await the_run(connection))["state"] == "cancelled"
    gate.open.set()
    assert await names(connection) == []


async def test_nothing_waits_for_a_report(
    importing: Importing, pool: Pool, tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Telling how far a run is waits as long as Redis is away; what is committed or cancelled does not."""
    monkeypatch.setattr(monitor_module, "INTERVAL", 0.05)
    monkeypatch.setattr(monitor_module, "LAST_REPORT", 0.05)
    telling, redis_is_back = threading.Semaphore(0), threading.Event()

    def report(_: Progress) -> None:
        telling.release()
        assert redis_is_back.wait(60)

    path, run_id = write_lines(tmp_path / "a.jsonl", patterns(3)), uuid4()
    running = asyncio.create_task(importing(make_plan(path), run_id, report=report))
    await gate.wait()
    assert await asyncio.to_thread(telling.acquire, timeout=60)
    async with pool.connection() as other:
        await ledger.cancel(other, run_id)
    assert (await running).metadata["error_type"] == "revoked"

    running = asyncio.create_task(importing(make_plan(path, name="other"), report=report))
    await gate.wait()
    assert await asyncio.to_thread(telling.acquire, timeout=60)
    gate.open.set()
    assert (await running).success
    assert not redis_is_back.is_set()
    redis_is_back.set()


async def test_cancelled_before_it_begins(importing: Importing, connection: Db, pool: Pool, tmp_path: Path) -> None:
    run_id = uuid4()
    async with pool.connection() as other:
        await ledger.cancel(other, run_id)
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))), run_id)
    assert result.metadata["error_type"] == "revoked"
    assert (await the_run(connection))["state"] == "cancelled"
    assert await names(connection) == []


async def test_the_history_answers_when_the_ledger_has_forgotten(
    importing: Importing, connection: Db, tmp_path: Path
) -> None:
    """The ledger is purged after 30 days, the history after 90; a message may come again in between."""
    path = write_lines(tmp_path / "a.jsonl", patterns(3))
    done, failed, cancelled = uuid4(), uuid4(), uuid4()
    first = await importing(make_plan(path), done)
    refused = await importing(make_plan(path), failed, force=True)
    await import_runs.add(connection, cancelled, "nightly", None, make_plan(path).content)
    await ledger.cancel(connection, cancelled)
    assert (await the_run(connection))["state"] == "cancelled"
    await connection.execute("DELETE FROM job_ledger")
    await connection.execute("DELETE FROM pattern_templates")

    again = await importing(make_plan(path), done)
    assert (again.success, again.metadata["replayed"]) == (True, True)
    assert again.data == first.data
    again = await importing(make_plan(path), failed)
    assert (again.error, again.metadata["error_type"]) == (refused.error, "unique_violation")
    again = await importing(make_plan(path), cancelled)
    assert again.metadata["error_type"] == "revoked"
    assert await names(connection) == []
    cursor = await connection.execute("SELECT FROM job_ledger")
    assert await cursor.fetchall() == [], "nothing is entered a second time"


async def test_cancelled_while_it_merges(importing: Importing, connection: Db, pool: Pool, tmp_path: Path) -> None:
    """Whoever is first in the ledger decides: a run that is cancelled in its last step writes nothing."""
    run_id = uuid4()
    async with pool.connection() as other, other.transaction():
        await other.execute("LOCK TABLE pattern_templates IN EXCLUSIVE MODE")
        running = asyncio.create_task(importing(make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))), run_id))
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

        async def waits() -> object:
            return await (await connection.execute(waiting)).fetchone()

        await until(waits)
        await ledger.cancel(connection, run_id)
    assert (await running).metadata["error_type"] == "revoked"
    assert await names(connection) == []
    assert (await the_run(connection))["state"] == "cancelled"


async def test_a_run_that_never_ends_is_given_up(importing: Importing, connection: Db, tmp_path: Path) -> None:
    plan, run_id = make_plan(write_lines(tmp_path / "a.jsonl", patterns(1))), uuid4()
    await import_runs.add(connection, run_id, plan.name, None, plan.content)
    for _ in range(3):
        await import_runs.begin(connection, run_id, delay=60)
    result = await importing(plan, run_id, max_attempts=3)
    assert result.metadata["error_type"] == "worker_lost"
    assert result.error == "the import was begun 3 times and never ended: its worker was killed or lost each time"
    assert (await the_run(connection))["state"] == "failed"


async def test_a_run_whose_failure_could_not_be_recorded(importing: Importing, connection: Db, tmp_path: Path) -> None:
    """PostgreSQL was away when its attempts were used up: the message of the next one says why."""
    plan, run_id = make_plan(write_lines(tmp_path / "a.jsonl", patterns(1))), uuid4()
    await import_runs.add(connection, run_id, plan.name, None, plan.content)
    for _ in range(3):
        await import_runs.begin(connection, run_id, delay=60)
    told = LastFailure(ErrorType.CONNECTION_LOST, "it went away")
    result = await importing(plan, run_id, max_attempts=3, last_failure=told)
    assert result.metadata["error_type"] == "connection_lost"
    assert result.error == "the import was begun 3 times and never ended: it went away"


async def test_postgresql_goes_away(importing: Importing, connection: Db, tmp_path: Path, gate: Gate) -> None:
    run_id = uuid4()
    plan = make_plan(write_lines(tmp_path / "a.jsonl", patterns(3)))
    running = asyncio.create_task(importing(plan, run_id))
    await gate.wait()
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
    )
    gate.open.set()
    result = await running
    assert result.metadata["retryable"] is True
    assert (await the_run(connection))["state"] == "running"
    again = await importing(plan, run_id)
    assert again.success, again.error
    assert len(await names(connection)) == 3
    assert (await the_run(connection))["attempts"] == 2


async def test_nothing_to_run(pool: Pool, tmp_path: Path) -> None:
    plan = make_plan(write_lines(tmp_path / "a.jsonl", []))
    result = await RunExecutor(pool, plan, uuid4(), rejects=tmp_path, seconds=60).execute()
    assert result.metadata["error_type"] == "unknown_run"


async def test_how_far_it_is(importing: Importing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "INTERVAL", 0.001)
    seen: list[dict[str, Any]] = []

    def report(progress: Progress) -> None:
        seen.append(progress.to_dict())
        raise ServerUnavailable("a report that fails stops nothing")

    path = write_lines(tmp_path / "a.jsonl", patterns(20_000))
    assert (await importing(make_plan(path), report=report)).success
    reading = [about for about in seen if about["current"]]
    assert reading
    assert {about["bytes_total"] for about in reading} == {path.stat().st_size}
    assert [about["current"] for about in seen] == sorted(about["current"] for about in seen)
    assert all(0 <= about["percent"] <= 100 for about in reading)
    assert {"name", "phase", "current", "total", "rate", "percent", "seconds_left"} <= seen[0].keys()


# --- sources ---


async def test_an_unchanged_source_is_skipped_and_says_so(importing: Importing, connection: Db, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", patterns(2))
    plan = make_plan(path, on_conflict="update")
    assert (await importing(plan)).data["state"] == "done"
    unchanged = await importing(plan)
    assert (unchanged.success, unchanged.data["state"], unchanged.data["rows_read"]) == (True, "unchanged", 0)
    assert (await the_run(connection))["state"] == "unchanged"
    assert (await importing(plan, force=True)).data["state"] == "done"
    # Another plan is another question.
    assert (await importing(make_plan(path, on_conflict="skip"))).data["state"] == "done"
    os.utime(path, (1, 1))
    assert (await importing(plan)).data["state"] == "done"


async def test_several_files(importing: Importing, connection: Db, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_lines(tmp_path / f"{name}.jsonl", [make_pattern(pattern_name=name)])
    (tmp_path / "folder.jsonl").mkdir()
    plan = make_plan(f"{tmp_path}/*.jsonl", on_conflict="update")
    result = await importing(plan)
    assert (result.data["rows_read"], result.data["source_version"][:7]) == (3, "3 files")
    assert (await importing(plan)).data["state"] == "unchanged"
    write_lines(tmp_path / "d.jsonl", [make_pattern(pattern_name="d")])
    again = await importing(plan)
    assert (again.data["rows_inserted"], again.data["rows_skipped"]) == (1, 3)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("absent.jsonl", "absent.jsonl does not exist"),
        ("absent/*.jsonl", "absent/*.jsonl matches no file"),
        ("folder.csv", "is a folder; name its files with '/*'"),
        ("file.csv/x.csv", "does not exist"),
    ],
)
async def test_a_source_that_is_not_there(importing: Importing, tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file.csv").write_text("")
    result = await importing(make_plan(tmp_path / source))
    assert result.metadata["error_type"] == "source_missing"
    assert says in str(result.error)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nothing://x/a.csv", "nothing"),
        ("s3://bucket/a.csv", "the extra 's3'"),
        ("gcs://bucket/a.csv", "the extra 'gcs'"),
    ],
)
async def test_a_source_that_nobody_can_read(importing: Importing, source: str, says: str) -> None:
    result = await importing(make_plan(source))
    assert result.metadata["error_type"] == "source_unreadable"
    assert says in str(result.error)


async def test_python_source_has_to_be_local(importing: Importing) -> None:
    result = await importing(make_plan("memory://x", format="python"))
    assert "is not local, as Python source has to be" in str(result.error)


def when_read(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something when a source has been found and before it is read."""
    version = Source.version

    def then(source: Source) -> str:
        found = version(source)
        act()
        return found

    monkeypatch.setattr(Source, "version", then)


async def test_a_source_that_grows_while_it_is_read(
    importing: Importing, connection: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "a.jsonl", patterns(3))

    def grow() -> None:
        with path.open("a") as stream:
            stream.write(json.dumps(make_pattern()) + "\n")

    plan, run_id = make_plan(path), uuid4()
    with monkeypatch.context() as patch:
        when_read(patch, grow)
        result = await importing(plan, run_id)
    assert result.metadata["error_type"] == "source_changed"
    assert result.metadata["retryable"] is True
    assert await names(connection) == []
    # At rest it is taken whole.
    assert (await importing(plan, run_id)).data["rows_inserted"] == 4


async def test_a_source_that_vanishes(
    importing: Importing, connection: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "a.jsonl", patterns(3))
    with monkeypatch.context() as patch:
        when_read(patch, path.unlink)
        result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "source_missing"
    write_lines(tmp_path / "b.jsonl", patterns(1))
    path = write_lines(tmp_path / "a.jsonl", patterns(3))
    read = Source.check_unchanged

    def vanished(source: Source) -> None:
        path.unlink(missing_ok=True)
        read(source)

    monkeypatch.setattr(Source, "check_unchanged", vanished)
    result = await importing(make_plan(f"{tmp_path}/*.jsonl"))
    assert result.metadata["error_type"] == "source_changed"
    assert "vanished while it was read" in str(result.error)
    assert await names(connection) == []


async def test_a_source_without_time_or_tag_is_known_by_its_checksum(importing: Importing) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe(f"/{uuid4()}/a.jsonl.gz", b"")
    path = f"memory://{uuid4()}/a.jsonl"
    memory.pipe(path, json.dumps(make_pattern()).encode())
    plan = make_plan(path, on_conflict="skip")
    first = await importing(plan)
    assert first.success, first.error
    assert first.data["source_version"].startswith("sha256 ")
    assert first.data["bytes"] == memory.info(path)["size"]
    assert (await importing(plan)).data["state"] == "unchanged"
    memory.pipe(path, json.dumps(make_pattern()).encode())
    assert (await importing(plan)).data["rows_inserted"] == 1


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder; the answer to HEAD and GET of `/status/N` is N."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def send_head(self) -> Any:
        if self.path.startswith("/status/"):
            self.send_error(int(self.path.split("/")[2]))
            return None
        return super().send_head()


class Tagged(BaseHTTPRequestHandler):
    """One file with an etag, of a size that nobody says."""

    content, etag = b"", ""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("ETag", self.etag)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Start an HTTP server on 127.0.0.1 and return its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(handler: Any) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=[0.01], daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
async def test_over_http(
    importing: Importing, connection: Db, tmp_path: Path, serve: Callable[[Any], str], name: str
) -> None:
    rows = patterns(3_000)
    path = write_lines(tmp_path / "a.jsonl", rows)
    if name.endswith(".gz"):
        import gzip

        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    elif name.endswith(".parquet"):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    # Python's server knows no ranges.
    plan = make_plan(f"{serve(partial(Quiet, directory=str(tmp_path)))}/{name}?token=secret")
    result = await importing(plan)
    assert result.success, result.error
    assert len(await names(connection)) == 3_000
    assert (await importing(plan)).data["state"] == "unchanged"


async def test_several_files_over_http(
    importing: Importing, connection: Db, tmp_path: Path, serve: Callable[[Any], str]
) -> None:
    for name in ("b", "a"):
        write_lines(tmp_path / f"{name}.jsonl", [make_pattern(pattern_name=name)])
    (tmp_path / "c.txt").write_text("not this one")
    plan = make_plan(f"{serve(partial(Quiet, directory=str(tmp_path)))}/*.jsonl")
    result = await importing(plan)
    assert result.success, result.error
    assert await names(connection) == ["a", "b"]
    assert (await importing(plan)).data["state"] == "unchanged"


async def test_http_with_an_etag(importing: Importing, serve: Callable[[Any], str]) -> None:
    handler = type("Handler", (Tagged,), {"content": json.dumps(make_pattern()).encode(), "etag": '"one"'})
    plan = make_plan(f"{serve(handler)}/a.jsonl", on_conflict="skip")
    first = await importing(plan)
    assert first.success, first.error
    assert first.data["source_version"] == 'etag "one"'
    assert (await importing(plan)).data["state"] == "unchanged"
    handler.etag = '"two"'  # type: ignore[attr-defined]
    assert (await importing(plan)).data["state"] == "done"


@pytest.mark.parametrize(
    ("status", "error_type", "retryable"),
    [
        (404, "source_missing", False),
        (410, "source_missing", False),
        (403, "source_unreadable", False),
        (500, "source_unavailable", True),
        (503, "source_unavailable", True),
    ],
)
async def test_http_that_refuses(
    importing: Importing, tmp_path: Path, serve: Callable[[Any], str], status: int, error_type: str, retryable: bool
) -> None:
    url = serve(partial(Quiet, directory=str(tmp_path)))
    result = await importing(make_plan(f"{url}/status/{status}/a.jsonl?token=secret"))
    assert (result.metadata["error_type"], "retryable" in result.metadata) == (error_type, retryable)
    assert f"/status/{status}/a.jsonl" in str(result.error)
    assert "secret" not in str(result.error)


async def test_http_where_nobody_listens(importing: Importing, absent_url: str) -> None:
    result = await importing(make_plan(absent_url.replace("redis", "http") + "/a.jsonl"))
    assert result.metadata["error_type"] == "source_unavailable"
    assert result.metadata["retryable"] is True


# --- history ---


async def test_a_run_of_the_command_line_that_was_killed_is_in_the_history(connection: Db) -> None:
    """It is never put on the queue: the file may be on no other machine."""
    run_id = uuid4()
    assert await import_runs.add(connection, run_id, "killed", None, {}, publish=False)
    [run] = await import_runs.history(connection)
    assert (run.run_id, run.state) == (run_id, "queued")
    assert run.publish_after.year >= 2100


async def test_old_runs_are_forgotten_but_the_last_of_each_import(connection: Db, pool: Pool) -> None:
    plan: dict[str, Any] = {}
    runs = [
        ("a", "done", 100),
        ("a", "done", 99),
        ("a", "failed", 98),
        ("a", "failed", 97),
        ("b", "running", 96),
        ("b", "failed", 89),
        ("b", "done", 1),
    ]
    for name, state, days in runs:
        run_id = uuid4()
        await import_runs.add(connection, run_id, name, datetime.now(UTC), plan)
        await connection.execute(
            "UPDATE import_runs SET state = %s, queued_at = now() - make_interval(days => %s) WHERE run_id = %s",
            [state, days, run_id],
        )
    async with pool.connection() as other:
        purged = [await import_runs.purge(other, days=90, step=2) for _ in range(3)]
    assert purged == [2, 1, 0]
    left = [(run.name, run.state) for run in await import_runs.history(connection)]
    assert left == [("b", "done"), ("b", "failed"), ("a", "failed"), ("a", "done")]
