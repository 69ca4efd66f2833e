"""The storage layer on a database of the test's own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, NodePatternStorageEffect
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pool import create_pool
from pattern_storage.testing import make_pattern

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


async def fail(node: NodePatternStorageEffect, operation: str, **fields: Any) -> ModelResult:
    """Execute an operation that must fail and return its result."""
    result = await node.execute_effect(contract(operation, **fields))
    assert not result.success, result.data
    return result


async def until(question: Callable[[], Awaitable[object]], deadline: float = 30.0) -> None:
    """Ask again and again until the answer is true. Fails after `deadline` seconds."""
    async with asyncio.timeout(deadline):
        while not await question():  # noqa: ASYNC110  # the server has no event to wait for
            await asyncio.sleep(0.002)
