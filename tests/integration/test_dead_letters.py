"""Dead letters: kept until their job is done after all or somebody discards them, and none of a job that has ended."""

import asyncio
from typing import Any
from uuid import uuid4

from pattern_storage.storage import (
    ModelContractPatternStorage,
    ModelResult,
    attempts,
    dead_letters,
    ledger,
)
from pattern_storage.storage.dead_letters import LetterFilter
from pattern_storage.storage.errors import UnsupportedOperation
from tests.fix_storage import (
    Connection,
    Executor,
    Node,
    Pool,
    contract,
    count,
    count_waiting,
    make_pattern,
    succeed_once,
    until,
)


async def test_dead_letter_until_it_is_done(executor: Executor, node: Node, connection: Connection) -> None:
    asked = contract("insert", data=make_pattern())
    failed = await node.execute_effect(contract("delete", pattern_id=uuid4()))
    assert [await attempts.count_delivery(connection, asked.correlation_id) for _ in range(3)] == [1, 2, 3]
    await dead_letters.add(connection, asked, failed, attempts=4)
    assert await count(connection, "job_attempts") == 0
    (letter,) = await dead_letters.fetch(connection)
    assert ModelContractPatternStorage.model_validate(letter.fields()) == asked
    assert (letter.correlation_id, letter.attempts, letter.error) == (asked.correlation_id, 4, failed.error)
    assert letter.first_at <= letter.died_at
    (entry,) = await dead_letters.page(connection, LetterFilter(error_type="validation_error"))
    assert entry.correlation_id == asked.correlation_id
    assert await dead_letters.page(connection, LetterFilter(error_type="connection_lost")) == []
    assert await dead_letters.fetch(connection, ids=[uuid4()]) == []
    await succeed_once(executor, asked)
    assert await count(connection, "dead_letters") == 0


async def test_a_job_ends_while_another_delivery_of_it_is_given_up(
    executor: Executor, connection: Connection, pool: Pool
) -> None:
    """Both lock what is known of the job in the same order, or they would wait for each other."""
    asked = contract("insert", data=make_pattern())
    failed = ModelResult.failure("no", "internal_error", correlation_id=asked.correlation_id, operation="insert")
    await dead_letters.add(connection, asked, failed, attempts=5)
    await attempts.count_delivery(connection, asked.correlation_id)
    async with pool.connection() as third:
        async with third.transaction():
            await third.execute("SELECT FROM job_attempts FOR UPDATE")

            async def all_wait() -> bool:
                return await count_waiting(third) == len(running)

            running: list[asyncio.Task[Any]] = [
                asyncio.create_task(dead_letters.add(connection, asked, failed, attempts=5))
            ]
            await until(all_wait)
            running.append(asyncio.create_task(executor.execute_once(asked)))
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
    # Hidden in lists, and so not counted either: an alert on it would lead to an empty page.
    assert [entry.correlation_id for entry in await dead_letters.page(connection)] == [open_.correlation_id]
    assert await dead_letters.count(connection) == await dead_letters.count(connection, limit=None) == 1
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
