"""Transactions of imports: when they are open, with which settings, and what their commit holds together."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pattern_storage.storage import ModelResult, ledger
from pattern_storage.tasks.imports.run import monitor as monitor_module
from pattern_storage.tasks.imports.run.execution import RunLocked
from pattern_storage.tasks.imports.run.transfer import Transfer
from tests.fix_imports import Gate, Importing, make_plan, newest_run, patterns, stored_names, write_lines
from tests.fix_storage import Connection, Pool


async def test_no_transaction_is_open_while_the_source_is_looked_at(
    importing: Importing, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        # Statements of the monitor and of its new connections, each a transaction of a moment.
        " AND query NOT LIKE '%ledger%' AND query NOT LIKE '%publish_after%' AND query NOT LIKE '%import_progress%'"
        " AND query NOT LIKE '%pg_settings.source%'"
    )
    assert await cursor.fetchall() == []
    postponed = (await newest_run(connection))["publish_after"]
    async with asyncio.timeout(60):
        while (await newest_run(connection))["publish_after"] <= postponed:
            pass
    gate.open.set()
    ended = await asyncio.gather(*twice, return_exceptions=True)
    done = [result for result in ended if isinstance(result, ModelResult)]
    assert all(result.success for result in done), done
    assert [result for result in ended if not isinstance(result, ModelResult | RunLocked)] == []
    assert len([result for result in done if not result.metadata.get("replayed")]) == 1
    assert len(await stored_names(connection)) == 3


@pytest.mark.parametrize("limit", ["idle_in_transaction_session_timeout", "transaction_timeout"])
async def test_limits_of_the_server_on_transactions(
    importing: Importing, connection: Connection, pool: Pool, tmp_path: Path, gate: Gate, limit: str
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


async def test_the_ledger_row_commits_with_the_rows_or_not_at_all(
    importing: Importing, connection: Connection, tmp_path: Path
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
        assert (await newest_run(connection))["finished_at"] is None
    finally:
        await connection.execute("DROP FUNCTION refuse CASCADE")
    again = await importing(plan, run_id)
    assert (again.success, again.metadata.get("replayed")) == (True, None)
    assert len(await stored_names(connection)) == 3


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


async def test_postgresql_goes_away(importing: Importing, connection: Connection, tmp_path: Path, gate: Gate) -> None:
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
    assert (await newest_run(connection))["state"] == "running"
    again = await importing(plan, run_id)
    assert again.success, again.error
    assert len(await stored_names(connection)) == 3
    assert (await newest_run(connection))["attempts"] == 2
