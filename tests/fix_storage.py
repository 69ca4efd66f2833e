"""The storage layer on a database of the test's own."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, NodePatternStorageEffect
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pool import create_pool
from pattern_storage.testing import make_pattern
from tests.fix_process import DEADLINE

__all__ = ["contract", "fail", "make_pattern", "succeed", "until"]

Connection = AsyncConnection[DictRow]
Node = NodePatternStorageEffect
Pool = AsyncConnectionPool[AsyncConnection[Any]]


def contract(operation: str, **fields: Any) -> ModelContractPatternStorage:
    """Return a contract of that operation."""
    return ModelContractPatternStorage(operation=operation, **fields)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """An open pool as workers have it."""
    async with create_pool(database_url) as opened:
        yield opened


@pytest.fixture
def node(pool: Pool) -> NodePatternStorageEffect:
    """The effect node on that pool."""
    return NodePatternStorageEffect(pool)


@pytest.fixture
def group(database_url: str) -> Iterator[GroupConnection]:
    """Executes groups, as a worker does."""
    opened = GroupConnection(database_url, connect_timeout=5.0)
    yield opened
    opened.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """An autocommit connection beside the pool; its rows are dicts."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True, row_factory=dict_row) as opened:
        yield opened


async def succeed(node: NodePatternStorageEffect, operation: str, **fields: Any) -> Any:
    """Execute an operation that must succeed and return its data."""
    result = await node.execute_effect(contract(operation, **fields))
    assert result.success, result.error
    return result.data


class Executor(Protocol):
    """Executes a job once, as the effect node does: also in a group, see `tests/fix_both_ways.py`."""

    async def execute_once(self, contract: ModelContractPatternStorage) -> ModelResult:
        """Return the job's result, the first one if it comes again."""


async def succeed_once(executor: Executor, asked: ModelContractPatternStorage) -> ModelContractPatternStorage:
    """Execute a job that must succeed, once, and return its contract."""
    result = await executor.execute_once(asked)
    assert result.success, result.error
    return asked


async def count(connection: Connection, table: str) -> int:
    """Return how many rows a table has."""
    row = await (await connection.execute(f"SELECT count(*) AS n FROM {table}")).fetchone()
    assert row is not None
    return int(row["n"])


async def count_waiting(connection: Connection) -> int:
    """Return how many sessions of this database wait for a lock.

    Also inside a transaction, whose list of sessions is otherwise that of its first look.
    """
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return (await connection.execute(waiting)).rowcount


async def fail(node: NodePatternStorageEffect, operation: str, **fields: Any) -> ModelResult:
    """Execute an operation that must fail and return its result."""
    result = await node.execute_effect(contract(operation, **fields))
    assert not result.success, result.data
    return result


async def until(question: Callable[[], Awaitable[object]], deadline: float = DEADLINE) -> None:
    """Ask again and again until the answer is true. Fails after `deadline` seconds."""
    end = time.monotonic() + deadline
    async with asyncio.timeout(deadline + 1):
        while not await question():  # the server has no event to wait for
            # Not by the timeout alone: redis-py swallows some cancellations before Python 3.12.
            assert time.monotonic() < end, f"not within {deadline} seconds"
            await asyncio.sleep(0.002)


#: A value for every column that a contract may leave out, of the kinds that are hard to escape.
FULL = {
    "category": "naïve",
    "description": "';DROP TABLE pattern_templates;--",
    "example_usage": "\\N\t\r\n\\.",
    "source": "C:\\new",
    "confidence_score": 0.1 + 0.2,
    "usage_count": 2**31 - 1,
    "success_rate": 5e-324,
    "complexity_score": 10,
    "maintainability_score": 0.0,
    "performance_score": 1.0,
    "is_deprecated": True,
    "created_by": "",
    "tags": ["", "NULL", 'a"b', "a,b", "{}", "\\", "ü\U0001f600"],
    "context": {"a": [1, None, True, 1.5, {"b": "\u2028\\u0000"}], "": {}, "big": 2**70},
}


async def all_rows(connection: Connection) -> list[DictRow]:
    """Return all patterns, in the order of their ids."""
    return await (await connection.execute("SELECT * FROM pattern_templates ORDER BY id")).fetchall()


async def row_of(connection: Connection, pattern_id: str) -> DictRow:
    """Return one pattern, which has to exist."""
    cursor = await connection.execute("SELECT * FROM pattern_templates WHERE id = %s", [pattern_id])
    found = await cursor.fetchone()
    assert found is not None
    return found


async def database_time(connection: Connection) -> datetime:
    """Return what time it is on the server."""
    found = await (await connection.execute("SELECT clock_timestamp() AS now")).fetchone()
    assert found is not None
    now: datetime = found["now"]
    return now


def assert_metadata(result: ModelResult, correlation_id: UUID, operation: str, error_type: str | None = None) -> None:
    """Check what the metadata of every result hold, and that result and metadata agree."""
    expected = {"correlation_id", "operation", "duration_ms"} | ({"error_type"} if error_type else set())
    assert set(result.metadata) - {"failed_index"} == expected
    assert result.metadata["correlation_id"] == str(correlation_id)
    assert result.metadata["operation"] == operation
    assert result.metadata["duration_ms"] > 0
    assert result.metadata.get("error_type") == error_type
    assert (result.data is None, result.error is None) == (not result.success, result.success)
    assert ModelResult.model_validate(result.to_dict()) == result


Row = dict[str, Any]


async def write_rows(connection: Connection, rows: Iterable[Row]) -> None:
    """Insert rows with columns that contracts cannot set."""
    for row in rows:
        values: dict[str, Any] = {"template_code": "x"} | row
        if "context" in values:
            values["context"] = Jsonb(values["context"])
        places = ", ".join(f"%({name})s" for name in values)
        statement = f"INSERT INTO pattern_templates ({', '.join(values)}) VALUES ({places})"
        await connection.execute(statement.encode(), values)


MakeNode = Callable[..., AbstractAsyncContextManager[Node]]


@pytest.fixture
def node_with(database_url: str) -> MakeNode:
    """A node whose sessions have these settings."""

    @asynccontextmanager
    async def make(**settings: str) -> AsyncIterator[Node]:
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        async with create_pool(f"{database_url}?options={quote(options)}") as pool:
            yield NodePatternStorageEffect(pool)

    return make


async def execute(connection: Connection, statement: str, *values: Any) -> list[DictRow]:
    cursor = await connection.execute(statement.encode(), values)
    return await cursor.fetchall() if cursor.description else []


def fetch(database_url: str, statement: str, values: Any = None) -> list[Any]:
    """Return the rows of a statement, on a connection of its own."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        return connection.execute(statement.encode(), values).fetchall()


def count_patterns(database_url: str) -> int:
    """Return how many patterns are stored."""
    [(count,)] = fetch(database_url, "SELECT count(*) FROM pattern_templates")
    return int(count)
