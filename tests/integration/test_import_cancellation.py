"""Imports that are cancelled: before they begin, while they read, and while they merge."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from pattern_storage.storage import ModelResult, import_runs, ledger
from pattern_storage.storage.import_runs import Counts
from pattern_storage.tasks.imports.run import monitor as monitor_module
from pattern_storage.vocabulary import ImportRunState
from tests.fix_imports import Gate, Importing, make_plan, newest_run, patterns, stored_names, write_lines
from tests.fix_storage import Connection, Pool, count_waiting, until


async def test_a_cancelled_run_rolls_back(
    importing: Importing,
    connection: Connection,
    pool: Pool,
    tmp_path: Path,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor_module, "INTERVAL", 0.05)
    run_id = uuid4()
    running = asyncio.create_task(importing(make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))), run_id))
    await gate.wait()
    async with pool.connection() as other:
        assert (await ledger.cancel(other, run_id)).metadata["error_type"] == "revoked"
    result = await running
    assert result.metadata["error_type"] == "revoked"
    assert (await newest_run(connection))["state"] == "cancelled"
    gate.open.set()
    assert await stored_names(connection) == []


async def test_cancelled_before_it_begins(
    importing: Importing, connection: Connection, pool: Pool, tmp_path: Path
) -> None:
    run_id = uuid4()
    async with pool.connection() as other:
        await ledger.cancel(other, run_id)
    result = await importing(make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))), run_id)
    assert result.metadata["error_type"] == "revoked"
    assert (await newest_run(connection))["state"] == "cancelled"
    assert await stored_names(connection) == []


async def test_cancelled_while_it_merges(
    importing: Importing, connection: Connection, pool: Pool, tmp_path: Path
) -> None:
    """Whoever is first in the ledger decides: a run that is cancelled in its last step writes nothing."""
    run_id = uuid4()
    async with pool.connection() as other, other.transaction():
        await other.execute("LOCK TABLE pattern_templates IN EXCLUSIVE MODE")
        running = asyncio.create_task(importing(make_plan(write_lines(tmp_path / "a.jsonl", patterns(3))), run_id))

        async def waits() -> bool:
            return await count_waiting(connection) > 0

        await until(waits)
        await ledger.cancel(connection, run_id)
    assert (await running).metadata["error_type"] == "revoked"
    assert await stored_names(connection) == []
    assert (await newest_run(connection))["state"] == "cancelled"


async def test_cancelled_in_the_moment_in_which_it_ends(connection: Connection, pool: Pool) -> None:
    """Both write the ledger first and the run second: in another order they would wait for each other."""
    run_id = uuid4()
    await import_runs.add(connection, run_id, "nightly", None, {})
    done = ModelResult(success=True, metadata={"correlation_id": str(run_id), "operation": "import"})
    async with pool.connection() as other, other.transaction():
        await ledger.record_result(other, run_id, b"x" * 32, done, "nightly")
        cancelling = asyncio.create_task(ledger.cancel(connection, run_id))

        async def waits() -> bool:
            return await count_waiting(other) == 1

        await until(waits)
        await import_runs.finish(other, run_id, ImportRunState.DONE, Counts())
    assert (await cancelling).success
    assert (await newest_run(connection))["state"] == "done"
