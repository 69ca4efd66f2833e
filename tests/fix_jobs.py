"""Jobs of every state in one database, which tests only read."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from pattern_storage.storage import NodePatternStorageEffect, attempts, dead_letters, import_runs, ledger, outbox
from pattern_storage.storage.delivery import Delivery, delivered
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.model_contract_pattern_storage import ModelResult
from pattern_storage.storage.pool import create_pool
from tests.fix_storage import contract, make_pattern

Connection = psycopg.AsyncConnection[Any]

SENT = datetime.now(UTC) - timedelta(seconds=3)
CLAIMED = SENT + timedelta(seconds=1)


@pytest.fixture(scope="module")
def known(shared_database_url: str) -> dict[str, UUID]:
    """The ids of jobs of all states, which tests only read, by what is particular about each."""

    async def make() -> dict[str, UUID]:
        async with create_pool(shared_database_url) as pool, pool.connection() as connection:
            group = GroupConnection(shared_database_url, connect_timeout=5.0)
            try:
                return await make_jobs(NodePatternStorageEffect(pool), group, connection)
            finally:
                group.close()

    return asyncio.run(make())


@pytest.fixture
async def reader(shared_database_url: str, known: dict[str, UUID]) -> AsyncIterator[Connection]:
    """A connection to those jobs."""
    async with await psycopg.AsyncConnection.connect(shared_database_url, autocommit=True) as opened:
        yield opened


async def make_jobs(node: NodePatternStorageEffect, group: GroupConnection, connection: Connection) -> dict[str, UUID]:
    alone = contract("insert", data=make_pattern(pattern_name="alone"))
    grouped = [contract("insert", data=make_pattern(pattern_name=f"grouped {n}")) for n in range(3)]
    twin = contract("insert", data=make_pattern(pattern_name="grouped 0"))
    deliveries = {
        one.correlation_id: Delivery("storage", "w1@host", SENT.timestamp(), CLAIMED.timestamp())
        for one in (alone, *grouped, twin)
    }
    with delivered(deliveries):
        assert (await node.execute_once(alone)).success
        results = group.execute([*grouped, twin])
    assert [result.success for result in results if result] == [True, True, True, False]
    waiting = contract("delete", pattern_id=uuid4())
    cancelled = contract("insert", data=make_pattern(pattern_name="cancelled"))
    for one in (waiting, cancelled):
        async with connection.transaction():
            await outbox.add(connection, one)
    await ledger.cancel(connection, cancelled.correlation_id)
    failure = ModelResult.failure("no", "connection_lost", correlation_id=uuid4(), operation="insert")
    retried = contract("insert", data=make_pattern(pattern_name="retried"))
    dead = contract("update", pattern_id=uuid4(), data={"language": "go"})
    came = Delivery("storage", "w1@host", SENT.timestamp(), CLAIMED.timestamp())
    with delivered({one.correlation_id: came for one in (retried, dead)}):
        for one in (retried, dead):
            await attempts.note_failure(connection, one, failure)
        await dead_letters.add(connection, dead, failure, attempts=5)
    run = uuid4()
    await import_runs.add(connection, run, "nightly", None, {})
    return {
        "alone": alone.correlation_id, "grouped": grouped[1].correlation_id, "twin": twin.correlation_id,
        "waiting": waiting.correlation_id, "cancelled": cancelled.correlation_id, "retried": retried.correlation_id,
        "dead": dead.correlation_id, "run": run,
    }  # fmt: skip
