"""A statement that passes its limit ends, and leaves no transaction and no lock behind."""

import asyncio
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pattern_storage.storage import NodePatternStorageEffect
from pattern_storage.storage.pool import create_pool
from pattern_storage.tasks.worker.redelivery import execute_again
from tests.fix_storage import contract, make_pattern, until


@pytest.mark.parametrize(
    ("limits", "timeouts", "operation", "error_type"),
    [
        ({"statement_timeout": 0.2}, {}, "insert", "statement_timeout"),
        ({"lock_timeout": 0.2}, {}, "insert", "transaction_conflict"),
        ({"statement_timeout": 60}, {"batch_insert": 0.2}, "batch_insert", "statement_timeout"),
        ({"statement_timeout": 0.2}, {"insert": 60, "batch_insert": 60}, "delete", "statement_timeout"),
    ],
)
async def test_limit(
    limits: dict[str, Any], timeouts: dict[str, float], operation: str, error_type: str, database_url: str
) -> None:
    fields: dict[str, dict[str, Any]] = {
        "insert": {"data": make_pattern()},
        "batch_insert": {"patterns": [make_pattern()]},
        "delete": {"pattern_id": "01234567-89ab-cdef-0123-456789abcdef"},
    }
    async with create_pool(database_url, **limits) as pool:
        node = NodePatternStorageEffect(pool, timeouts=timeouts)
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
            async with other.transaction():
                await other.execute("LOCK TABLE pattern_templates")
                # Without the limit it would wait for this transaction, and this transaction for it.
                async with asyncio.timeout(30):
                    result = await node.execute_effect(contract(operation, **fields[operation]))
            assert result.metadata["error_type"] == error_type

            async def nothing_left() -> bool:
                cursor = await other.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
                )
                return await cursor.fetchone() == (0,)

            await until(nothing_left)
        assert (await node.execute_effect(contract("insert", data=make_pattern()))).success


async def test_the_batch_limit_ends_with_its_transaction(database_url: str) -> None:
    async with create_pool(database_url, min_size=1, max_size=1, statement_timeout=60) as pool:
        node = NodePatternStorageEffect(pool, timeouts={"batch_insert": 180})
        assert (await node.execute_effect(contract("batch_insert", patterns=[make_pattern()]))).success
        async with pool.connection() as connection:
            assert await (await connection.execute("SHOW statement_timeout")).fetchone() == ("1min",)


async def test_the_lock_of_a_job_outlasts_the_server_s_time_for_idle_transactions(database_url: str) -> None:
    """A copy of the job that begins meanwhile would be counted as one after an attempt that died."""
    locks = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
    blocked = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with (
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as watcher,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other,
    ):
        name = SQL("ALTER DATABASE {} SET idle_in_transaction_session_timeout = '100ms'")
        await watcher.execute(name.format(Identifier(watcher.info.dbname)))

        async def found(statement: LiteralString) -> bool:
            return bool(await (await watcher.execute(statement)).fetchall())

        async with create_pool(database_url) as pool, asyncio.TaskGroup() as group, other.transaction():
            await other.execute("LOCK TABLE pattern_templates")
            one = contract("insert", data=make_pattern())
            running = group.create_task(execute_again(NodePatternStorageEffect(pool), one, 5))
            await until(lambda: found(blocked))
            await watcher.execute("SELECT pg_sleep(0.5)")
            assert await found(locks)
        assert running.result()[1] is not None
