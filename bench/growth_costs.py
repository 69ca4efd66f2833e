"""Costs of each part of the storage: CPU time of the PostgreSQL process, in microseconds a call."""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.growth_rows import harvested
from pattern_storage.storage import ModelResult, NodePatternStorageEffect
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pool import create_pool
from pattern_storage.tasks.client.outgoing import build

CALLS = 200
STEP = 100
GROUP = 64

numbers = count()

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


async def merge(node: NodePatternStorageEffect) -> float:
    """Merge what is pending for the index of trigrams, as autovacuum does; return the microseconds of CPU it took.

    PostgreSQL does so in the midst of an insert as well, once in some thousands.
    """
    async with node.pool.connection() as connection:
        before = cpu(connection.info.backend_pid)
        await connection.execute("SELECT gin_clean_pending_list('pattern_templates_name_trigrams')")
        return (cpu(connection.info.backend_pid) - before) / 1000


def pattern(prefix: str = "") -> dict[str, Any]:
    """Return a harvested pattern under a name that no other has."""
    number = next(numbers)
    found = harvested()[number % len(harvested())]
    return found | {"pattern_name": f"{prefix}{found['pattern_name'][:200]} again {number}"}


async def costs(url: str) -> AsyncIterator[tuple[str, float]]:
    """Yield the name and the cost of each thing that is done again and again."""
    async with create_pool(url, min_size=1, max_size=1) as pool:
        node = NodePatternStorageEffect(pool)
        async with pool.connection() as connection:
            pid = connection.info.backend_pid

        async def execute(operation: str, **fields: Any) -> None:
            result = await node.execute_once(build(operation, **fields))
            assert result.success, result.error

        async def insert(prefix: str = "") -> None:
            await execute("insert", data=pattern(prefix))

        # So many that PostgreSQL would merge them about once.
        calls = 25 * CALLS
        await merge(node)
        each = await cost(pid, insert, calls)
        yield "insert, with its ledger row", each + await merge(node) / calls
        await insert("quokka ")
        # What is pending is read by each query, 4 MB at most at any size of the table.
        await merge(node)
        for name, params in (
            ("query: newest page", {}),
            ("query: page of a category", {"category": "asyncio", "limit": 20}),
            ("query: part of a name", {"name_contains": "quokka"}),
            # Each three letters of it are in every 14th name, and all of them in none.
            ("query: frequent parts of names", {"name_contains": "syncon"}),
        ):
            yield name, await cost(pid, lambda params=params: execute("query", query_params=params))  # type: ignore[misc]
        async for other in other_jobs(url, node, pid):
            yield other


async def other_jobs(url: str, node: NodePatternStorageEffect, pid: int) -> AsyncIterator[tuple[str, float]]:
    """Yield what jobs cost that are not single inserts alone: groups, batches, and what goes on with a pattern."""

    async def execute(operation: str, **fields: Any) -> ModelResult:
        result = await node.execute_once(build(operation, **fields))
        assert result.success, result.error
        return result

    group = GroupConnection(url, connect_timeout=5)
    try:
        group.execute([build("insert", data=pattern())])
        async with node.pool.connection() as connection:
            found = await connection.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'pattern-storage worker' AND pid <> %s",
                [pid],
            )
            [(group_pid,)] = await found.fetchall()

        async def execute_group() -> None:
            results = group.execute([build("insert", data=pattern()) for _ in range(GROUP)])
            assert None not in results

        groups = CALLS // 2
        await merge(node)
        each = await cost(group_pid, execute_group, groups)
        yield f"insert, in a group of {GROUP}", (each + await merge(node) / groups) / GROUP
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
