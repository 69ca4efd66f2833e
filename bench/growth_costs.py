"""Costs of each part of the storage: CPU time of the PostgreSQL process, in microseconds a call."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from pattern_storage import ModelContractPatternStorage
from pattern_storage.storage import (
    ModelResult,
    NodePatternStorageEffect,
)
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pool import create_pool

CALLS = 200
STEP = 100
GROUP = 64

Call = Callable[[], Awaitable[object]]


def cpu(pid: int) -> int:
    """Return the nanoseconds that a process has spent on a CPU."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0])


async def cost(pid: int, call: Call, calls: int = CALLS) -> float:
    """Return the microseconds of CPU that a call costs the server process, the first few left out."""
    for _ in range(max(1, calls // 10)):
        await call()
    before = cpu(pid)
    for _ in range(calls):
        await call()
    return (cpu(pid) - before) / calls / 1000


def pattern(prefix: str = "") -> dict[str, Any]:
    """Return a pattern whose name no other has."""
    name = prefix + uuid4().hex
    return {
        "pattern_name": name, "pattern_type": "function", "language": "python", "category": "category 7",
        "template_code": name * 10, "tags": ["tag 7"], "context": {"module": name},
    }  # fmt: skip


async def costs(url: str) -> AsyncIterator[tuple[str, float]]:
    """Yield the name and the cost of each thing that is done again and again."""
    async with create_pool(url, min_size=1, max_size=1) as pool:
        node = NodePatternStorageEffect(pool)
        async with pool.connection() as connection:
            pid = connection.info.backend_pid

        async def execute(operation: str, **fields: Any) -> None:
            result = await node.execute_once(ModelContractPatternStorage(operation=operation, **fields))
            assert result.success, result.error

        async def insert(prefix: str = "") -> None:
            await execute("insert", data=pattern(prefix))

        # So many that the pending entries of the trigram index are merged once at every size.
        yield "insert, with its ledger row", await cost(pid, insert, 25 * CALLS)
        await insert("needle ")
        async with pool.connection() as connection:
            # As autovacuum does: what is pending is read by each query, 4 MB at most at any size of the table.
            await connection.execute("SELECT gin_clean_pending_list('pattern_templates_name_trigrams')")
        for name, params in (
            ("query: newest page", {}),
            ("query: page of a category", {"category": "category 7"}),
            ("query: part of a name", {"name_contains": "needle"}),
            # Each three letters of it are in every 65th name.
            ("query: frequent parts of names", {"name_contains": "9f8e7d"}),
        ):
            yield name, await cost(pid, lambda params=params: execute("query", query_params=params))  # type: ignore[misc]
        async for each in other_jobs(url, node, pid):
            yield each


async def other_jobs(url: str, node: NodePatternStorageEffect, pid: int) -> AsyncIterator[tuple[str, float]]:
    """Yield what jobs cost that are not single inserts alone: groups, batches, and what goes on with a pattern."""

    def contract(operation: str, **fields: Any) -> ModelContractPatternStorage:
        return ModelContractPatternStorage(operation=operation, **fields)

    async def execute(operation: str, **fields: Any) -> ModelResult:
        result = await node.execute_once(contract(operation, **fields))
        assert result.success, result.error
        return result

    group = GroupConnection(url, connect_timeout=5)
    try:
        group.execute([contract("insert", data=pattern())])
        async with node.pool.connection() as connection:
            found = await connection.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'pattern-storage worker' AND pid <> %s",
                [pid],
            )
            [(group_pid,)] = await found.fetchall()

        async def execute_group() -> None:
            results = group.execute([contract("insert", data=pattern()) for _ in range(GROUP)])
            assert None not in results

        yield f"insert, in a group of {GROUP}", await cost(group_pid, execute_group, CALLS // 2) / GROUP
    finally:
        group.close()
    ids = [(await execute("insert", data=pattern())).data["pattern_id"] for _ in range(3 * CALLS)]
    left = iter(ids)
    yield "update", await cost(pid, lambda: execute("update", pattern_id=ids[-1], data={"description": uuid4().hex}))
    yield "delete", await cost(pid, lambda: execute("delete", pattern_id=next(left)))
    patterns = 100
    yield (
        "batch of 100, a pattern",
        await cost(pid, lambda: execute("batch_insert", patterns=[pattern() for _ in range(patterns)]), 50) / patterns,
    )
