"""Once per correlation id: whoever comes second answers with the first result, and changes nothing."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from pattern_storage.storage import (
    ModelContractPatternStorage,
    ModelResult,
    attempts,
    dead_letters,
    ledger,
    outbox,
)
from pattern_storage.storage.errors import UnsupportedOperation
from tests.fix_storage import Connection, Node, Pool, contract, make_pattern, succeed, until


async def count(connection: Connection, table: str) -> int:
    row = await (await connection.execute(f"SELECT count(*) AS n FROM {table}")).fetchone()
    assert row is not None
    return int(row["n"])


async def write_of(operation: str, node: Node) -> ModelContractPatternStorage:
    """A contract of this operation that succeeds once."""
    if operation == "insert":
        return contract("insert", data=make_pattern())
    if operation == "batch_insert":
        return contract("batch_insert", patterns=[make_pattern() for _ in range(20)])
    pattern_id = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    return contract(operation, pattern_id=pattern_id, **({"data": {"usage_count": 7}} if operation == "update" else {}))


@pytest.mark.parametrize("operation", ["insert", "update", "delete", "batch_insert"])
async def test_many_at_once_have_one_effect(operation: str, node: Node, connection: Connection) -> None:
    asked = await write_of(operation, node)
    await connection.execute(
        "CREATE TABLE effects (at timestamptz DEFAULT clock_timestamp());"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO effects DEFAULT VALUES; RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON pattern_templates"
        " FOR EACH STATEMENT EXECUTE FUNCTION note()"
    )
    results = await asyncio.gather(*(node.execute_once(asked) for _ in range(8)))
    assert all(result.success for result in results), results
    assert [bool(result.metadata.get("replayed")) for result in results].count(False) == 1
    assert len({str(result.data) for result in results}) == 1
    # A statement that wrote nothing fires the trigger too, but only one transaction committed.
    again = await node.execute_once(asked)
    assert again.metadata["replayed"] is True
    assert again.data == results[0].data
    assert await count(connection, "job_ledger") == 1
    assert await count(connection, "effects") == 1


async def test_a_permanent_failure_is_decided_once(node: Node) -> None:
    """What failed does not succeed when its message comes again, even if it could by now."""
    pattern_id = uuid4()
    asked = contract("delete", pattern_id=pattern_id)
    first = await node.execute_once(asked)
    assert first.metadata["error_type"] == "validation_error"
    second = await node.execute_once(asked)
    assert (second.error, second.metadata["replayed"]) == (first.error, True)


async def test_bad_values_are_decided_too(node: Node, connection: Connection) -> None:
    asked = contract("insert", data=make_pattern(confidence_score=5))
    assert (await node.execute_once(asked)).metadata["error_type"] == "validation_error"
    assert (await node.execute_once(asked)).metadata["replayed"] is True
    assert await count(connection, "pattern_templates") == 0


@pytest.mark.parametrize("operation", ["insert", "update", "delete", "batch_insert"])
async def test_same_id_with_another_request(operation: str, node: Node, connection: Connection) -> None:
    first = await succeed_once(node, contract("insert", data=make_pattern()))
    other = await write_of(operation, node)
    before = await count(connection, "pattern_templates")
    other.correlation_id = first.correlation_id
    result = await node.execute_once(other)
    assert result.metadata["error_type"] == "correlation_conflict"
    assert str(first.correlation_id) in str(result.error)
    assert await count(connection, "pattern_templates") == before


async def succeed_once(node: Node, asked: ModelContractPatternStorage) -> ModelContractPatternStorage:
    result = await node.execute_once(asked)
    assert result.success, result.error
    return asked


async def test_name_and_version_do_not_make_another_request(node: Node) -> None:
    asked = await succeed_once(node, contract("insert", data=make_pattern()))
    renamed = asked.model_copy(update={"name": "other", "version": "2.0.0", "description": "other"})
    assert (await node.execute_once(renamed)).metadata["replayed"] is True


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


async def test_cancelled_before_it_ran(node: Node, connection: Connection) -> None:
    asked = contract("insert", data=make_pattern())
    assert (await ledger.cancel(connection, asked.correlation_id)).metadata["error_type"] == "revoked"
    result = await node.execute_once(asked)
    assert (result.metadata["error_type"], result.metadata["replayed"]) == ("revoked", True)
    assert await count(connection, "pattern_templates") == 0


async def test_cancelled_while_it_commits(node: Node, connection: Connection) -> None:
    """Cancelling and committing at the same moment: both sides agree on who was first."""
    for _ in range(30):
        asked = contract("insert", data=make_pattern())
        done, cancelled = await asyncio.gather(
            node.execute_once(asked), ledger.cancel(connection, asked.correlation_id)
        )
        assert done.success == cancelled.success
    assert await count(connection, "pattern_templates") == sum(
        1
        for row in await (await connection.execute("SELECT result FROM job_ledger")).fetchall()
        if row["result"]["success"]
    )


async def test_cancelled_while_it_ends_and_a_relay_holds_its_row(
    node: Node, connection: Connection, pool: Pool
) -> None:
    """Both write the ledger first: in another order the one would wait for the row, and the other for the first."""
    asked = contract("insert", data=make_pattern())
    async with connection.transaction():
        await outbox.add(connection, asked)
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with pool.connection() as relay:
        async with relay.transaction():
            assert await outbox.claim(relay)

            async def both_wait() -> bool:
                return (await relay.execute(waiting)).rowcount == len(running)

            running = [asyncio.create_task(ledger.cancel(connection, asked.correlation_id))]
            await until(both_wait)
            running.append(asyncio.create_task(node.execute_once(asked)))
            await until(both_wait)
        results = await asyncio.gather(*running)
    assert [result.metadata["error_type"] for result in results] == ["revoked", "revoked"]


async def test_a_contract_with_a_nul_is_cancelled_among_others(connection: Connection) -> None:
    """A message of another application may have one; it would be refused as soon as it is executed."""
    jobs = {
        one.correlation_id: one
        for one in (contract("insert", data=make_pattern(pattern_name="\x00")), contract("delete", pattern_id=uuid4()))
    }
    assert await ledger.cancel_all(connection, jobs) == set(jobs)
    assert [(await ledger.state(connection, job))[0] for job in jobs] == ["REVOKED", "REVOKED"]


async def test_cancelled_after_it_was_done(node: Node, connection: Connection) -> None:
    asked = await succeed_once(node, contract("insert", data=make_pattern()))
    assert (await ledger.cancel(connection, asked.correlation_id)).success


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


async def test_dead_letter_until_it_is_done(node: Node, connection: Connection) -> None:
    asked = contract("insert", data=make_pattern())
    failed = await node.execute_effect(contract("delete", pattern_id=uuid4()))
    assert [await attempts.count_delivery(connection, asked.correlation_id) for _ in range(3)] == [1, 2, 3]
    await dead_letters.add(connection, asked, failed, attempts=4)
    assert await count(connection, "job_attempts") == 0
    (letter,) = await dead_letters.fetch(connection)
    assert ModelContractPatternStorage.model_validate(letter.fields()) == asked
    assert (letter.correlation_id, letter.attempts, letter.error) == (asked.correlation_id, 4, failed.error)
    assert letter.first_at <= letter.died_at
    (entry,) = await dead_letters.page(connection, error_type="validation_error")
    assert entry.correlation_id == asked.correlation_id
    assert await dead_letters.page(connection, error_type="connection_lost") == []
    assert await dead_letters.fetch(connection, ids=[uuid4()]) == []
    await succeed_once(node, asked)
    assert await dead_letters.fetch(connection) == []


async def test_a_job_ends_while_another_delivery_of_it_is_given_up(
    node: Node, connection: Connection, pool: Pool
) -> None:
    """Both lock what is known of the job in the same order, or they would wait for each other."""
    asked = contract("insert", data=make_pattern())
    failed = ModelResult.failure("no", "internal_error", correlation_id=asked.correlation_id, operation="insert")
    await dead_letters.add(connection, asked, failed, attempts=5)
    await attempts.count_delivery(connection, asked.correlation_id)
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with pool.connection() as third:
        async with third.transaction():
            await third.execute("SELECT FROM job_attempts FOR UPDATE")

            async def all_wait() -> bool:
                return (await third.execute(waiting)).rowcount == len(running)

            running: list[asyncio.Task[Any]] = [
                asyncio.create_task(dead_letters.add(connection, asked, failed, attempts=5))
            ]
            await until(all_wait)
            running.append(asyncio.create_task(node.execute_once(asked)))
            await until(all_wait)
        _, done = await asyncio.gather(*running)
    assert done.success
    assert await dead_letters.fetch(connection) == []


async def test_a_dead_letter_whose_error_has_a_nul_is_kept(connection: Connection) -> None:
    """An unexpected exception may have any text; a job without its dead letter would be retried for ever."""
    asked = contract("insert", data=make_pattern())
    failed = ModelResult.failure("a\x00b", "internal_error", correlation_id=asked.correlation_id, operation="insert")
    assert await dead_letters.add(connection, asked, failed, attempts=5)
    assert [letter.error for letter in await dead_letters.fetch(connection)] == ["a\\x00b"]


async def test_the_state_of_a_dead_letter_with_a_nul(connection: Connection) -> None:
    """An application may have written it into the outbox with SQL."""
    asked = uuid4()
    await connection.execute(
        "INSERT INTO outbox (correlation_id, contract) VALUES (%s, %s)", [asked, '{"operation": "in\\u0000sert"}']
    )
    await dead_letters.move_from_outbox(connection, asked, UnsupportedOperation("in\x00sert"))
    state, result = await ledger.state(connection, asked)
    assert state == "FAILURE"
    assert result is not None
    assert (result.error, result.metadata["operation"]) == ("Unsupported operation: in\\x00sert", None)


async def test_dead_letters_of_jobs_that_ended_after_all(node: Node, connection: Connection) -> None:
    """One delivery was given up while another one committed; `test_reused_ids.py` has the race itself."""
    done, open_ = (contract("insert", data=make_pattern()) for _ in range(2))
    failed = await node.execute_effect(contract("delete", pattern_id=uuid4()))
    for each in (done, open_):
        await dead_letters.add(connection, each, failed, attempts=5)
    await succeed_once(node, other := contract("insert", data=make_pattern()))
    await connection.execute(
        "UPDATE job_ledger SET correlation_id = %s WHERE correlation_id = %s",
        [done.correlation_id, other.correlation_id],
    )
    # Nearly as old as the ledger: the days are days.
    await connection.execute("UPDATE dead_letters SET died_at = now() - interval '29 days'")
    assert await dead_letters.purge_finished(connection, days=30) == 1
    assert [letter.correlation_id for letter in await dead_letters.fetch(connection)] == [open_.correlation_id]


async def test_attempts_that_were_counted_too_late(node: Node, connection: Connection) -> None:
    """A copy was counted, and then killed, in the moment in which another one ended."""
    done, open_, old = (contract("insert", data=make_pattern()) for _ in range(3))
    await succeed_once(node, done)
    for each in (done, open_, old):
        await attempts.count_delivery(connection, each.correlation_id)
    assert await attempts.purge(connection, days=30) == 0
    await connection.execute("UPDATE job_attempts SET first_at = now() - interval '2 days'")
    await connection.execute(
        "UPDATE job_attempts SET first_at = now() - interval '31 days' WHERE correlation_id = %s", [old.correlation_id]
    )
    assert await attempts.purge(connection, days=30) == 2
    assert await attempts.count_delivery(connection, open_.correlation_id) == 2


async def test_discarded_dead_letters(node: Node, connection: Connection) -> None:
    failed = await node.execute_effect(contract("delete", pattern_id=uuid4()))
    dead = [contract("insert", data=make_pattern()) for _ in range(3)]
    for one in dead:
        await dead_letters.add(connection, one, failed, attempts=1)
    assert await dead_letters.discard(connection, [dead[0].correlation_id, uuid4()]) == 1
    assert len(await dead_letters.fetch(connection)) == 2
