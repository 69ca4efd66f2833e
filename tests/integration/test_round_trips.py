"""What once-only costs: counted in the protocol that libpq speaks, not in our own statements."""

import os
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from bench.peers.round_trips import counted
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, NodePatternStorageEffect
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pool import create_pool
from tests.fix_storage import contract, make_pattern, succeed

Execute = Callable[[ModelContractPatternStorage], Awaitable[ModelResult]]
#: What a client sends last before it waits for the server: a simple query, or the end of an extended one.
WAITS = ("Query", "Sync")


async def round_trips(node: NodePatternStorageEffect, execute: Execute, asked: ModelContractPatternStorage) -> int:
    """Execute a contract that must succeed; return how often its only connection waited for PostgreSQL."""
    with tempfile.TemporaryFile() as trace:
        async with node.pool.connection() as connection:
            wire = connection.pgconn
        wire.trace(trace.fileno())
        try:
            assert (await execute(asked)).success
        finally:
            wire.untrace()
        # libpq writes with a stream and an offset of its own.
        sent = os.pread(trace.fileno(), os.fstat(trace.fileno()).st_size, 0).decode().splitlines()
    return sum(line.split("\t")[1:2] == ["F"] and line.split("\t")[3].strip() in WAITS for line in sent)


@pytest.mark.parametrize("operation", ["insert", "update", "delete", "batch_insert"])
async def test_the_ledger_costs_at_most_one_round_trip(operation: str, database_url: str) -> None:
    async with create_pool(database_url, min_size=1, max_size=1, prepare_threshold=None) as pool:
        node = NodePatternStorageEffect(pool)

        async def asked() -> ModelContractPatternStorage:
            if operation == "insert":
                return contract("insert", data=make_pattern())
            if operation == "batch_insert":
                return contract("batch_insert", patterns=[make_pattern() for _ in range(10)])
            stored = await succeed(node, "insert", data=make_pattern())
            changes: dict[str, Any] = {"data": {"usage_count": 1}} if operation == "update" else {}
            return contract(operation, pattern_id=stored["pattern_id"], **changes)

        effect = await round_trips(node, node.execute_effect, await asked())
        once = await round_trips(node, node.execute_once, await asked())
    # BEGIN, the statement and COMMIT were seen.
    assert effect == 3
    assert once <= effect + 1


@pytest.mark.parametrize("jobs", [1, 64])
def test_a_group_is_one_round_trip(jobs: int, database_url: str) -> None:
    with counted(database_url) as proxy, closing(GroupConnection(proxy.url, connect_timeout=5)) as group:
        for turn in range(3):
            before = proxy.round_trips
            assert None not in group.execute([contract("insert", data=make_pattern()) for _ in range(jobs)])
            # The first one also connects, and looks for the plans of its statements.
            assert turn == 0 or proxy.round_trips == before + 1
