"""Runs of imports: each is done once, never beside another of its import, and ends even where its worker did not."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pattern_storage.storage import import_runs, ledger
from pattern_storage.tasks.imports.run.execution import RunExecutor, RunLocked
from pattern_storage.tasks.worker.last_failure import LastFailure
from pattern_storage.vocabulary import ErrorType
from tests.fix_cli import names_in
from tests.fix_imports import Gate, Importing, make_plan, newest_run, patterns, stored_names, write_lines
from tests.fix_storage import Connection, Pool


async def test_a_dry_run_does_everything_and_leaves_nothing(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "a.jsonl", [*patterns(10), {}])
    result = await importing(make_plan(path, max_bad_rows=1), dry_run=True)
    assert (result.success, result.data["rows_inserted"], result.data["rows_rejected"]) == (True, 10, 1)
    assert result.data["reject_file"] is None
    assert await stored_names(connection) == []
    assert names_in(tmp_path / "rejects" / "nightly") == []
    cursor = await connection.execute("SELECT (SELECT count(*) FROM import_runs) + (SELECT count(*) FROM job_ledger)")
    assert await cursor.fetchone() == {"?column?": 0}


async def test_the_same_run_again_answers_with_its_recorded_result(
    importing: Importing, connection: Connection, tmp_path: Path
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
    assert (await newest_run(connection))["state"] == "failed"


async def test_runs_of_one_import_never_overlap(
    importing: Importing, connection: Connection, tmp_path: Path, gate: Gate
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


async def test_the_history_answers_when_the_ledger_has_forgotten(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    """The ledger is purged after 30 days, the history after 90; a message may come again in between."""
    path = write_lines(tmp_path / "a.jsonl", patterns(3))
    done, failed, cancelled = uuid4(), uuid4(), uuid4()
    first = await importing(make_plan(path), done)
    refused = await importing(make_plan(path), failed, force=True)
    await import_runs.add(connection, cancelled, "nightly", None, make_plan(path).content)
    await ledger.cancel(connection, cancelled)
    assert (await newest_run(connection))["state"] == "cancelled"
    await connection.execute("DELETE FROM job_ledger")
    await connection.execute("DELETE FROM pattern_templates")

    again = await importing(make_plan(path), done)
    assert (again.success, again.metadata["replayed"]) == (True, True)
    assert again.data == first.data
    again = await importing(make_plan(path), failed)
    assert (again.error, again.metadata["error_type"]) == (refused.error, "unique_violation")
    again = await importing(make_plan(path), cancelled)
    assert again.metadata["error_type"] == "revoked"
    assert await stored_names(connection) == []
    cursor = await connection.execute("SELECT FROM job_ledger")
    assert await cursor.fetchall() == [], "nothing is entered a second time"


async def test_a_run_that_never_ends_is_given_up(importing: Importing, connection: Connection, tmp_path: Path) -> None:
    plan, run_id = make_plan(write_lines(tmp_path / "a.jsonl", patterns(1))), uuid4()
    await import_runs.add(connection, run_id, plan.name, None, plan.content)
    for _ in range(3):
        await import_runs.begin(connection, run_id, delay=60)
    result = await importing(plan, run_id, max_attempts=3)
    assert result.metadata["error_type"] == "worker_lost"
    assert result.error == "the import was begun 3 times and never ended: its worker was killed or lost each time"
    assert (await newest_run(connection))["state"] == "failed"


async def test_a_run_whose_failure_could_not_be_recorded(
    importing: Importing, connection: Connection, tmp_path: Path
) -> None:
    """PostgreSQL was away when its attempts were used up: the message of the next one says why."""
    plan, run_id = make_plan(write_lines(tmp_path / "a.jsonl", patterns(1))), uuid4()
    await import_runs.add(connection, run_id, plan.name, None, plan.content)
    for _ in range(3):
        await import_runs.begin(connection, run_id, delay=60)
    told = LastFailure(ErrorType.CONNECTION_LOST, "it went away")
    result = await importing(plan, run_id, max_attempts=3, last_failure=told)
    assert result.metadata["error_type"] == "connection_lost"
    assert result.error == "the import was begun 3 times and never ended: it went away"


async def test_nothing_to_run(pool: Pool, tmp_path: Path) -> None:
    plan = make_plan(write_lines(tmp_path / "a.jsonl", []))
    result = await RunExecutor(pool, plan, uuid4(), rejects=tmp_path, seconds=60).execute()
    assert result.metadata["error_type"] == "unknown_run"


async def test_a_run_of_the_command_line_that_was_killed_is_in_the_history(connection: Connection) -> None:
    """It is never put on the queue: the file may be on no other machine."""
    run_id = uuid4()
    assert await import_runs.add(connection, run_id, "killed", None, {}, publish=False)
    [run] = await import_runs.history(connection)
    assert (run.run_id, run.state) == (run_id, "queued")
    assert run.publish_after.year >= 2100


async def test_old_runs_are_forgotten_but_the_last_of_each_import(connection: Connection, pool: Pool) -> None:
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
