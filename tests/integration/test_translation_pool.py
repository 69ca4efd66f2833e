"""Errors of the pool: no free connection, a pool that is closed, and servers that are not there."""

import asyncio

import pytest

from pattern_storage.storage import NodePatternStorageEffect, schema
from pattern_storage.storage.errors import TransientError
from pattern_storage.storage.pool import create_pool
from tests.fix_servers import on_database
from tests.fix_storage import Pool, fail, succeed, until


async def test_no_free_connection(database_url: str) -> None:
    async with create_pool(database_url, min_size=1, max_size=1, timeout=0.05) as pool:
        await pool.wait(30)  # connecting may take longer than a caller would wait
        node = NodePatternStorageEffect(pool)
        async with pool.connection():
            result = await fail(node, "query")
        assert result.metadata["error_type"] == "pool_timeout"
        assert str(result.error).startswith("no database connection became free in time: couldn't get a connection")
        assert (await succeed(node, "query"))["count"] == 0


async def test_too_many_wait_for_a_connection(database_url: str) -> None:
    async with create_pool(database_url, min_size=1, max_size=1) as pool:
        pool.max_waiting = 1
        node = NodePatternStorageEffect(pool)
        async with pool.connection():
            first = asyncio.create_task(succeed(node, "query"))

            async def waits() -> bool:
                return pool.get_stats().get("requests_waiting") == 1

            await until(waits)
            result = await fail(node, "query")
            assert result.metadata["error_type"] == "pool_timeout"
        await first


async def test_a_pool_that_is_closed_or_was_never_opened(pool: Pool, database_url: str) -> None:
    await pool.close()
    result = await fail(NodePatternStorageEffect(pool), "query")
    assert result.metadata["error_type"] == "server_unavailable"
    assert str(result.error).startswith("the connection pool is closed: ")
    result = await fail(NodePatternStorageEffect(create_pool(database_url)), "query")
    assert result.metadata["error_type"] == "server_unavailable"


async def test_a_server_that_nobody_runs() -> None:
    """The pool connects in the background, so its user learns of it as a wait in vain."""
    pool = create_pool("postgresql://x:x@127.0.0.1:1/x", timeout=0.05)
    await pool.open(wait=False)
    try:
        result = await fail(NodePatternStorageEffect(pool), "query")
    finally:
        await pool.close()
    assert result.metadata["error_type"] == "pool_timeout"


def test_connecting_in_vain(database_url: str) -> None:
    for url, text in (
        ("postgresql://x:x@127.0.0.1:1/x", "Connection refused"),
        (on_database(database_url, "no_such_database"), 'database "no_such_database" does not exist'),
        (on_database("postgresql://nobody:x@" + database_url.rpartition("@")[2], "postgres"), "authentication failed"),
    ):
        with pytest.raises(TransientError) as raised:
            schema.current(url)
        assert text in str(raised.value)
        assert raised.value.error_type == "server_unavailable"
