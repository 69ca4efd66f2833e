"""Jobs that are sent again: what their timelines say before and after."""

import asyncio
from uuid import uuid4

from pattern_storage.storage import (
    NodePatternStorageEffect,
    attempts,
    dead_letters,
    job_retries,
)
from pattern_storage.storage.job_details import find_job
from pattern_storage.storage.job_retries import Retried
from pattern_storage.storage.model_contract_pattern_storage import ModelResult
from tests.fix_storage import Connection, Executor, Pool, contract, make_pattern, until


async def test_attempts_are_in_the_timeline_of_a_job_that_was_done_at_last(
    executor: Executor, connection: Connection
) -> None:
    job = contract("insert", data=make_pattern())
    failure = ModelResult.failure("gone", "connection_lost", correlation_id=job.correlation_id, operation="insert")
    for _ in range(25):
        await attempts.note_failure(connection, job, failure)
        await attempts.count_delivery(connection, job.correlation_id)
    assert (await executor.execute_once(job)).success
    found = await find_job(connection, job.correlation_id)
    assert found is not None
    assert [event.what for event in found.events] == ["attempt failed"] * 20 + ["started", "committed"]
    assert found.job.attempts == 26


async def test_a_replayed_dead_letter_keeps_its_timeline(executor: Executor, connection: Connection) -> None:
    job = contract("insert", data=make_pattern())
    failure = ModelResult.failure("gone", "connection_lost", correlation_id=job.correlation_id, operation="insert")
    for _ in range(2):
        await attempts.note_failure(connection, job, failure)
        await dead_letters.add(connection, job, failure, attempts=2)
        await dead_letters.note_replay(connection, [job.correlation_id])
    found = await find_job(connection, job.correlation_id)
    assert found is not None
    once = ["attempt failed", "attempt failed", "DEAD", "replayed"]
    assert [event.what for event in found.events] == [*once, *once]
    assert (await executor.execute_once(job)).success
    found = await find_job(connection, job.correlation_id)
    assert found is not None
    assert [event.what for event in found.events] == [*once, *once, "started", "committed"]
    assert (found.retries, found.retried_from, found.can_be_retried) == ([], None, False)


async def test_a_failed_job_is_sent_again_under_a_new_id(
    node: NodePatternStorageEffect, connection: Connection
) -> None:
    pattern = make_pattern()
    first, twin = (contract("insert", data=pattern) for _ in range(2))
    wrong = contract("insert", data=pattern | {"confidence_score": 7})
    for one in (first, twin, wrong):
        await node.execute_once(one)
    missing = uuid4()
    ids = [first.correlation_id, twin.correlation_id, wrong.correlation_id, missing]
    async with connection.transaction():
        done = await job_retries.retry(connection, ids)
    ((old, new),) = done.sent
    assert old == twin.correlation_id
    assert (new.data, new.operation) == (twin.data, "insert")
    assert list(done.refused) == [first.correlation_id, wrong.correlation_id, missing]
    assert "confidence_score" in done.refused[wrong.correlation_id]
    again = await job_retries.retry(connection, [twin.correlation_id])
    assert again.refused == {twin.correlation_id: "it was sent again before"}
    waiting = await find_job(connection, new.correlation_id)
    assert waiting is not None
    assert (waiting.job.state, waiting.retried_from) == ("QUEUED", twin.correlation_id)
    found = await find_job(connection, twin.correlation_id)
    assert found is not None
    assert found.retries == [new.correlation_id]
    await connection.execute("UPDATE job_retries SET created_at = now() - interval '29 days'")
    assert await job_retries.purge(connection, days=30) == 0
    await connection.execute("UPDATE job_retries SET created_at = now() - interval '31 days'")
    assert await job_retries.purge(connection, days=30) == 1


async def test_two_operators_who_send_a_job_again_at_the_same_time_send_it_once(
    node: NodePatternStorageEffect, connection: Connection, pool: Pool
) -> None:
    job = contract("delete", pattern_id=uuid4())
    assert not (await node.execute_once(job)).success

    async def retry() -> Retried:
        async with pool.connection() as other, other.transaction():
            return await job_retries.retry(other, [job.correlation_id])

    async with pool.connection() as watching:

        async def waits_or_is_done() -> bool:
            question = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            return second.done() or (await watching.execute(question)).rowcount == 1

        async with connection.transaction():
            first = await job_retries.retry(connection, [job.correlation_id])
            second = asyncio.create_task(retry())
            await until(waits_or_is_done)
        refused = (await second).refused
    assert [old for old, _ in first.sent] == [job.correlation_id]
    assert refused == {job.correlation_id: "it was sent again before"}
