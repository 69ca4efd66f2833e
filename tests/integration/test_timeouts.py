"""A statement that passes its limit ends, and leaves no transaction and no lock behind."""

import asyncio
from contextlib import closing
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from pattern_storage.storage import NodePatternStorageEffect
from pattern_storage.storage.group import GroupConnection
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
            await until(lambda: nothing_is_open(other))
        assert (await node.execute_effect(contract("insert", data=make_pattern()))).success


async def nothing_is_open(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether no other session of the database has a transaction, and with it no lock."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    found = await connection.execute(f"SELECT FROM pg_stat_activity WHERE {others} AND xact_start IS NOT NULL")
    return not await found.fetchall()


@pytest.mark.parametrize("pooler", [False, True], ids=["session", "pooler"])
@pytest.mark.parametrize("statement_timeout", [0.1, 60], ids=["statement_timeout", "lock_timeout"])
async def test_limit_of_a_group(statement_timeout: float, pooler: bool, database_url: str) -> None:
    """All of its jobs are left to be executed alone, and its connection takes the next group."""
    jobs = [contract("insert", data=make_pattern()), contract("delete", pattern_id=uuid4())]
    group = GroupConnection(database_url, connect_timeout=5, statement_timeout=statement_timeout, pooler=pooler)
    with closing(group):
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
            async with other.transaction():
                await other.execute("LOCK TABLE pattern_templates")
                running = asyncio.create_task(asyncio.to_thread(group.execute, jobs))
                # Without the limit it would wait for this transaction.
                await asyncio.wait([running], timeout=30)
            assert await running == [None, None]
            await until(lambda: nothing_is_open(other))
        session = group.open()
        assert [result and result.success for result in group.execute(jobs)] == [True, False]
        assert group.open() is session


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
