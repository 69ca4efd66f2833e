"""The pool: autocommit connections, explicit transactions only, and back in service after its server went away."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow

from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.storage import NodePatternStorageEffect, schema
from pattern_storage.storage.pool import create_pool
from tests.fix_storage import Connection, Node, Pool, contract, fail, make_pattern, succeed, until

TRANSIENT = {"connection_lost", "server_unavailable", "pool_timeout"}


async def test_defaults(pool: Pool) -> None:
    assert (pool.min_size, pool.max_size, pool.timeout, pool.name) == (2, 10, 10.0, "pattern-storage")
    async with pool.connection() as connection:
        assert connection.autocommit
        assert connection.prepare_threshold == 5
        row = await (await connection.execute("SHOW application_name")).fetchone()
        assert row == ("pattern-storage",)


async def test_settings(database_url: str) -> None:
    pool = create_pool(
        database_url, min_size=1, max_size=3, timeout=7.0, prepare_threshold=None, application_name="another"
    )
    assert pool.closed
    async with pool:
        assert (pool.min_size, pool.max_size, pool.timeout, pool.name) == (1, 3, 7.0, "another")
        async with pool.connection() as connection:
            assert connection.prepare_threshold is None
            row = await (await connection.execute("SHOW application_name")).fetchone()
            assert row == ("another",)


async def test_operations_without_prepared_statements(database_url: str) -> None:
    """What PgBouncer before 1.21 needs: the same operations, and nothing left in the session."""
    async with create_pool(database_url, min_size=1, max_size=1, prepare_threshold=None) as pool:
        node = NodePatternStorageEffect(pool)
        for _ in range(10):
            made = await succeed(node, "insert", data=make_pattern())
            await succeed(node, "update", pattern_id=made["pattern_id"], data={"category": "x"})
        async with pool.connection() as connection:
            assert await (await connection.execute("SELECT name FROM pg_prepared_statements")).fetchall() == []


async def test_a_query_is_never_prepared_and_an_insert_is(node: Node) -> None:
    async with create_pool(node.pool.conninfo, min_size=1, max_size=1) as pool:  # type: ignore[arg-type]
        single = NodePatternStorageEffect(pool)
        for _ in range(10):
            await succeed(single, "query", query_params={"language": "python"})
            await succeed(single, "insert", data=make_pattern())
        async with pool.connection() as connection:
            rows = await (await connection.execute("SELECT statement FROM pg_prepared_statements")).fetchall()
        statements = [row[0] for row in rows]
        assert any(statement.startswith("INSERT") for statement in statements)
        assert not any(statement.startswith("SELECT") for statement in statements)


async def sessions(connection: Connection) -> list[DictRow]:
    """The pool's sessions as PostgreSQL sees them."""
    # Inside a transaction the view is frozen at the first look.
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    cursor = await connection.execute(
        "SELECT pid, state, xact_start FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'pattern-storage' ORDER BY pid"
    )
    return await cursor.fetchall()


async def test_no_transaction_is_left_open(node: Node, connection: Connection) -> None:
    """After successes, failures of every kind and a cancelled caller: every session is idle, none in a transaction."""
    made = await succeed(node, "insert", data=make_pattern(pattern_name="x"))
    await asyncio.gather(
        *(succeed(node, "insert", data=make_pattern()) for _ in range(20)),
        *(fail(node, "insert", data=make_pattern(pattern_name="x")) for _ in range(5)),
        *(fail(node, "batch_insert", patterns=[make_pattern(), make_pattern(pattern_name="x")]) for _ in range(5)),
        *(fail(node, "delete", pattern_id="01234567-89ab-cdef-0123-456789abcdef") for _ in range(5)),
        *(succeed(node, "query") for _ in range(5)),
    )
    async with connection.transaction():
        await connection.execute("SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", [made["pattern_id"]])
        job = asyncio.create_task(node.execute_effect(contract("delete", pattern_id=made["pattern_id"])))

        async def waits() -> bool:
            return any(session["xact_start"] for session in await sessions(connection))

        await until(waits)
        job.cancel()
        await asyncio.wait([job])

    async def idle() -> bool:
        found = await sessions(connection)
        return bool(found) and all(one["state"] == "idle" and one["xact_start"] is None for one in found)

    await until(idle)
    async with node.pool.connection() as used:
        assert used.info.transaction_status == TransactionStatus.IDLE


async def test_a_failed_operation_does_not_poison_its_connection(database_url: str) -> None:
    async with create_pool(database_url, min_size=1, max_size=1) as pool:
        node = NodePatternStorageEffect(pool)
        async with pool.connection() as connection:
            before = connection.info.backend_pid
        await succeed(node, "insert", data=make_pattern(pattern_name="x"))
        await fail(node, "insert", data=make_pattern(pattern_name="x"))
        await fail(node, "batch_insert", patterns=[make_pattern(pattern_name="x")])
        await succeed(node, "insert", data=make_pattern(pattern_name="y"))
        async with pool.connection() as connection:
            assert connection.info.backend_pid == before


async def recover(node: Node) -> list[str]:
    """Insert until it succeeds again; return what the failures before were called."""
    failures: list[str] = []

    async def works() -> bool:
        result = await node.execute_effect(contract("insert", data=make_pattern()))
        if not result.success:
            failures.append(result.metadata["error_type"])
        return result.success

    await until(works)
    return failures


async def test_sessions_that_were_ended_are_replaced(node: Node, connection: Connection) -> None:
    await node.pool.wait()
    await succeed(node, "insert", data=make_pattern())
    before = {session["pid"] for session in await sessions(connection)}
    await connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [list(before)])
    failures = await recover(node)
    assert set(failures) <= TRANSIENT
    assert len(failures) <= len(before)

    async def refilled() -> bool:
        found = {session["pid"] for session in await sessions(connection)}
        return len(found) >= node.pool.min_size and not found & before

    await until(refilled)
    assert await recover(node) == []


@pytest.fixture
def own_postgres(server_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A server that no other test shares: this one may be stopped and killed, and keeps what it acknowledged."""
    settings = {"synchronous_commit": "on"}
    with EmbeddedPostgres(server_directory / "own-postgres", durable=False, settings=settings) as server:
        schema.upgrade(server.url)
        yield server


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_the_server_comes_back(own_postgres: EmbeddedPostgres, end: str) -> None:
    """Stopped in order or killed while operations run: only transient failures, then service as before."""
    async with create_pool(own_postgres.url, timeout=0.3) as pool:
        node = NodePatternStorageEffect(pool)
        acknowledged: list[str] = []
        error_types: set[str] = set()
        down = asyncio.Event()

        async def work() -> None:
            while not (down.is_set() and error_types):
                result = await node.execute_effect(contract("insert", data=make_pattern()))
                if result.success:
                    acknowledged.append(result.data["pattern_id"])
                else:
                    error_types.add(result.metadata["error_type"])

        async def some() -> bool:
            return len(acknowledged) > 20

        workers = [asyncio.create_task(work()) for _ in range(4)]
        await until(some)
        await asyncio.to_thread(getattr(own_postgres, end))
        down.set()
        await asyncio.gather(*workers)
        assert error_types <= TRANSIENT
        url = own_postgres.url
        await asyncio.to_thread(own_postgres.start)
        assert own_postgres.url == url
        assert set(await recover(node)) <= TRANSIENT
        async with pool.connection() as connection:
            rows: list[Any] = await (await connection.execute("SELECT id::text FROM pattern_templates")).fetchall()
        assert set(acknowledged) <= {row[0] for row in rows}
