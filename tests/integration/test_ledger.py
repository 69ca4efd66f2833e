"""Once per correlation id: whoever comes second answers with the first result, and changes nothing.

Alone and in a group, by `executor`.
"""

import asyncio
import math
from typing import Any
from uuid import uuid4

import pytest

from pattern_storage.storage import (
    ModelContractPatternStorage,
    ledger,
)
from tests.fix_both_ways import OWN
from tests.fix_storage import Connection, Executor, Node, contract, count, execute, make_pattern, succeed, succeed_once


async def write_of(operation: str, node: Node) -> ModelContractPatternStorage:
    """A contract of this operation that succeeds once."""
    if operation == "insert":
        return contract("insert", data=make_pattern())
    if operation == "batch_insert":
        return contract("batch_insert", patterns=[make_pattern() for _ in range(20)])
    pattern_id = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    return contract(operation, pattern_id=pattern_id, **({"data": {"usage_count": 7}} if operation == "update" else {}))


@pytest.mark.parametrize("operation", ["insert", "update", "delete", "batch_insert"])
async def test_many_at_once_have_one_effect(
    operation: str, executor: Executor, node: Node, connection: Connection
) -> None:
    asked = await write_of(operation, node)
    await connection.execute(
        "CREATE TABLE effects (pattern_name text);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO effects VALUES ((coalesce(NEW, OLD)).pattern_name); RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON pattern_templates FOR EACH ROW EXECUTE FUNCTION note()"
    )
    results = await asyncio.gather(*(executor.execute_once(asked) for _ in range(8)))
    assert all(result.success for result in results), results
    assert [bool(result.metadata.get("replayed")) for result in results].count(False) == 1
    assert len({str(result.data) for result in results}) == 1
    again = await executor.execute_once(asked)
    assert again.metadata["replayed"] is True
    assert again.data == results[0].data
    assert await count(connection, f"job_ledger {OWN}") == 1
    assert await count(connection, f"effects {OWN}") == len(asked.patterns or [asked])


async def test_a_permanent_failure_is_decided_once(executor: Executor) -> None:
    """What failed does not succeed when its message comes again, even if it could by now."""
    pattern_id = uuid4()
    asked = contract("delete", pattern_id=pattern_id)
    first = await executor.execute_once(asked)
    assert first.metadata["error_type"] == "validation_error"
    second = await executor.execute_once(asked)
    assert (second.error, second.metadata["replayed"]) == (first.error, True)


async def test_bad_values_are_decided_too(executor: Executor, connection: Connection) -> None:
    asked = contract("insert", data=make_pattern(confidence_score=5))
    assert (await executor.execute_once(asked)).metadata["error_type"] == "validation_error"
    assert (await executor.execute_once(asked)).metadata["replayed"] is True
    assert await count(connection, f"pattern_templates {OWN}") == 0


@pytest.mark.parametrize("columns", [{"confidence_score": math.nan}, {"context": {"k": [-math.inf]}}])
async def test_numbers_that_json_does_not_have_are_decided_too(
    executor: Executor, connection: Connection, columns: dict[str, Any]
) -> None:
    """Python's parser takes them out of a message; the contract cannot be kept, its failure can."""
    asked = contract("insert", data=make_pattern(**columns))
    first = await executor.execute_once(asked)
    assert first.metadata["error_type"] == "validation_error"
    assert str(first.error).startswith(next(iter(columns)))
    second = await executor.execute_once(asked)
    assert (second.error, second.metadata["replayed"]) == (first.error, True)
    cancelled = contract("insert", data=make_pattern(**columns))
    result = await ledger.cancel(connection, cancelled.correlation_id, cancelled)
    assert result.metadata["error_type"] == "revoked"
    kept = await execute(connection, f"SELECT contract FROM job_ledger {OWN}")
    assert kept == [{"contract": None}] * 2


@pytest.mark.parametrize("operation", ["insert", "update", "delete", "batch_insert"])
async def test_same_id_with_another_request(
    operation: str, executor: Executor, node: Node, connection: Connection
) -> None:
    first = await succeed_once(executor, contract("insert", data=make_pattern()))
    other = await write_of(operation, node)
    before = await execute(connection, f"SELECT * FROM pattern_templates {OWN}")
    other.correlation_id = first.correlation_id
    result = await executor.execute_once(other)
    assert result.metadata["error_type"] == "correlation_conflict"
    assert str(first.correlation_id) in str(result.error)
    assert await execute(connection, f"SELECT * FROM pattern_templates {OWN}") == before


async def test_name_and_version_do_not_make_another_request(executor: Executor) -> None:
    asked = await succeed_once(executor, contract("insert", data=make_pattern()))
    renamed = asked.model_copy(update={"name": "other", "version": "2.0.0", "description": "other"})
    assert (await executor.execute_once(renamed)).metadata["replayed"] is True


async def test_queries_are_executed_each_time(node: Node, connection: Connection) -> None:
    asked = contract("query")
    assert (await node.execute_once(asked)).data["count"] == 0
    await succeed(node, "insert", data=make_pattern())
    assert (await node.execute_once(asked)).data["count"] == 1
    assert await count(connection, "job_ledger") == 0


async def test_a_lost_connection_decides_nothing(node: Node, connection: Connection) -> None:
    """The server ends the session in mid-transaction: nothing is written, and the next try does it."""
    asked = contract("insert", data=make_pattern())
    async with connection.transaction():
        await connection.execute("LOCK TABLE pattern_templates")
        running = asyncio.create_task(node.execute_once(asked))
        blocked: list[Any] = []
        async with asyncio.timeout(30):
            while not blocked:
                await connection.execute("SELECT pg_stat_clear_snapshot()")
                blocked = await (
                    await connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                    )
                ).fetchall()
        result = await running
    assert (result.success, result.metadata["retryable"]) == (False, True)
    assert await count(connection, "job_ledger") == 0
    again = await node.execute_once(asked)
    assert again.success
    assert "replayed" not in again.metadata


async def test_purge_goes_in_steps_and_keeps_the_young(node: Node, connection: Connection) -> None:
    for _ in range(5):
        await succeed_once(node, contract("insert", data=make_pattern()))
    await connection.execute(
        "UPDATE job_ledger SET finished_at = now() - interval '31 days'"
        " WHERE correlation_id IN (SELECT correlation_id FROM job_ledger LIMIT 3)"
    )
    # The others are nearly as old: the days are days.
    await connection.execute(
        "UPDATE job_ledger SET finished_at = now() - interval '29 days' WHERE finished_at > now() - interval '1 day'"
    )
    assert await ledger.purge(connection, days=30, step=2) == 2
    assert await ledger.purge(connection, days=30, step=2) == 1
    assert await ledger.purge(connection, days=30, step=2) == 0
    assert await count(connection, "job_ledger") == 2
