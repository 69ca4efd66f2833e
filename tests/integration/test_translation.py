"""Errors that PostgreSQL and the pool really raise, and what they become."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from pattern_storage.storage.errors import ContractInvalid, StorageError, TransactionConflict, TransientError
from pattern_storage.storage.translation import translate
from tests.fix_storage import Connection, MakeNode, Node, contract, execute, fail, make_pattern, succeed, until


async def translated(awaitable: Awaitable[Any]) -> StorageError:
    """Return what the driver's error becomes."""
    with pytest.raises(psycopg.Error) as raised:
        await awaitable
    return translate(raised.value)


def blocked(connection: Connection) -> Callable[[], Awaitable[list[DictRow]]]:
    """Ask for the backends that wait for a lock."""

    async def ask() -> list[DictRow]:
        # Inside a transaction the list of sessions is frozen at the first look.
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        return await execute(
            connection,
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )

    return ask


@pytest.fixture
async def locked(node: Node, connection: Connection) -> AsyncIterator[str]:
    """The id of a pattern whose row another transaction holds."""
    pattern_id: str = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    async with connection.transaction(force_rollback=True):
        await execute(connection, "SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", pattern_id)
        yield pattern_id


async def test_lock_timeout(node_with: MakeNode, locked: str) -> None:
    async with node_with(lock_timeout="10ms") as node:
        result = await fail(node, "update", pattern_id=locked, data={"category": "x"})
    assert result.metadata["error_type"] == "transaction_conflict"
    assert result.error == "PostgreSQL asks to try again: canceling statement due to lock timeout"


async def test_statement_timeout(node_with: MakeNode, locked: str) -> None:
    async with node_with(statement_timeout="300ms") as node:
        result = await fail(node, "delete", pattern_id=locked)
    assert result.metadata["error_type"] == "statement_timeout"
    assert result.error == "PostgreSQL cancelled the statement: canceling statement due to statement timeout"


async def test_a_statement_that_an_operator_cancels(node: Node, connection: Connection, locked: str) -> None:
    job = asyncio.create_task(fail(node, "delete", pattern_id=locked))
    ask = blocked(connection)
    await until(ask)
    await execute(connection, "SELECT pg_cancel_backend(%s)", (await ask())[0]["pid"])
    result = await job
    assert result.metadata["error_type"] == "statement_timeout"
    assert result.error == "PostgreSQL cancelled the statement: canceling statement due to user request"


async def test_a_backend_that_an_operator_ends_in_mid_transaction(
    node: Node, connection: Connection, locked: str
) -> None:
    """A batch holds its first rows when it meets the lock: its connection dies, and all its rows with it."""
    await execute(connection, "UPDATE pattern_templates SET pattern_name = 'taken' WHERE id = %s", locked)
    patterns = [make_pattern(pattern_name=name) for name in ("a", "b", "taken", "z")]
    job = asyncio.create_task(fail(node, "batch_insert", patterns=patterns))
    ask = blocked(connection)
    await until(ask)
    await execute(connection, "SELECT pg_terminate_backend(%s)", (await ask())[0]["pid"])
    result = await job
    assert result.metadata["error_type"] in ("server_unavailable", "connection_lost")
    assert "failed_index" not in result.metadata
    assert [row["pattern_name"] for row in await execute(connection, "SELECT * FROM pattern_templates")] == ["taken"]
    await succeed(node, "insert", data=make_pattern())


async def test_deadlock(database_url: str, connection: Connection, node: Node) -> None:
    ids = (await succeed(node, "batch_insert", patterns=[make_pattern(), make_pattern()]))["pattern_ids"]
    name = database_url.rsplit("/", 1)[1]
    await execute(connection, f"ALTER DATABASE {name} SET deadlock_timeout = '5ms'")
    both_hold_one = asyncio.Barrier(2)

    async def lock(order: list[str]) -> None:
        async with await AsyncConnection.connect(database_url, autocommit=True) as mine, mine.transaction():
            await mine.execute("SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", [order[0]])
            await both_hold_one.wait()
            await mine.execute("SELECT FROM pattern_templates WHERE id = %s FOR UPDATE", [order[1]])

    outcomes = await asyncio.gather(lock(ids), lock(ids[::-1]), return_exceptions=True)
    [error] = [outcome for outcome in outcomes if outcome is not None]
    assert isinstance(error, psycopg.errors.DeadlockDetected)
    assert isinstance(translate(error), TransactionConflict)
    assert str(translate(error)) == "PostgreSQL asks to try again: deadlock detected"


async def test_serialization_failure(node_with: MakeNode, connection: Connection) -> None:
    """Two updates of one row under REPEATABLE READ: the one that had to wait is asked to try again."""
    async with node_with(default_transaction_isolation="repeatable\\ read") as node:
        pattern_id = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
        async with connection.transaction():
            await execute(connection, "UPDATE pattern_templates SET usage_count = 1 WHERE id = %s", pattern_id)
            job = asyncio.create_task(fail(node, "update", pattern_id=pattern_id, data={"usage_count": 2}))
            await until(blocked(connection))
        result = await job
    assert result.metadata["error_type"] == "transaction_conflict"
    assert result.error == "PostgreSQL asks to try again: could not serialize access due to concurrent update"


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (
            "INSERT INTO pattern_templates (pattern_type, language, template_code) VALUES ('t', 'l', 'c')",
            'pattern_name: null value in column "pattern_name" of relation "pattern_templates" violates not-null',
        ),
        (
            "INSERT INTO pattern_templates (pattern_name, pattern_type, language, template_code, usage_count)"
            " VALUES ('n', 't', 'l', 'c', -1)",
            "pattern_templates_usage_count_check: new row for relation",
        ),
        ("SELECT 'x'::uuid", "PostgreSQL refused a value: invalid input syntax for type uuid"),
        (r"""SELECT '"\u0000"'::jsonb ->> 0""", "PostgreSQL refused a value: unsupported Unicode escape sequence"),
        ("SELECT 1 / 0", "PostgreSQL refused a value: division by zero"),
        ("SELECT repeat('x', 2000000000) || repeat('x', 2000000000)", "PostgreSQL refused a value: "),
        ("SELECT %s", "PostgreSQL text fields cannot contain NUL"),
    ],
)
async def test_values_that_the_database_refuses(connection: Connection, statement: str, text: str) -> None:
    values = ("\x00",) if "%s" in statement else ()
    error = await translated(execute(connection, statement, *values))
    assert type(error) is ContractInvalid
    assert str(error).startswith(text)


async def test_a_session_that_idled_too_long_in_a_transaction(connection: Connection) -> None:
    await execute(connection, "SET idle_in_transaction_session_timeout = 1")
    await execute(connection, "BEGIN")
    error: psycopg.Error | None = None

    async def ended() -> bool:
        nonlocal error
        await asyncio.sleep(0.02)  # idles: each statement starts the count again
        try:
            await execute(connection, "SELECT 1")
        except psycopg.Error as raised:
            error = raised
        return error is not None

    await until(ended)
    assert error is not None
    assert isinstance(translate(error), TransientError)
    assert translate(error).error_type == "connection_lost"


async def test_an_error_nobody_foresaw_is_logged_with_its_traceback(
    node: Node, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("pattern_storage.storage.operations.insert.adapt", explode)
    result = await fail(node, "insert", data=make_pattern())
    assert (result.error, result.metadata["error_type"]) == ("unexpected ZeroDivisionError: boom", "internal_error")
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info
    assert record.correlation_id == result.metadata["correlation_id"]  # type: ignore[attr-defined]
    assert "boom" in caplog.text


async def test_cancelling_the_caller_is_not_a_failed_operation(node: Node, connection: Connection, locked: str) -> None:
    job = asyncio.create_task(node.execute_effect(contract("delete", pattern_id=locked)))
    await until(blocked(connection))
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job

    async def free() -> bool:
        return not await blocked(connection)()

    await until(free)
    assert len(await execute(connection, "SELECT id FROM pattern_templates")) == 1
