"""Claims of outbox rows by relays: none twice, again after a growing delay, and bounded by size."""

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from pattern_storage.storage import NodePatternStorageEffect, dead_letters, ledger, outbox
from pattern_storage.storage.sql import block
from tests.fix_outbox import insertion
from tests.fix_storage import Connection, Executor, contract


async def write(connection: Connection, count: int) -> list[UUID]:
    asked = [insertion() for _ in range(count)]
    for one in asked:
        async with connection.transaction():
            await outbox.add(connection, one)
    return [one.correlation_id for one in asked]


async def claim(connection: Connection, **options: Any) -> list[UUID]:
    return [job.correlation_id for job in await outbox.claim(connection, **options)]


async def test_nobody_claims_what_another_holds(connection: Connection, database_url: str) -> None:
    ids = await write(connection, 5)
    async with await AsyncConnection.connect(database_url, autocommit=True, row_factory=dict_row) as other:
        async with connection.transaction():
            assert await claim(connection, limit=3) == ids[:3]
            async with other.transaction():
                assert await claim(other) == ids[3:]
                await outbox.mark_published(other, ids[3:], delay=60)
        # The first one has marked nothing: its rows are free again.
        async with other.transaction():
            assert await claim(other) == ids[:3]


async def test_nothing_is_due_in_an_empty_outbox(connection: Connection) -> None:
    assert await outbox.next_publication(connection) is None


async def test_published_again_after_twice_the_delay_each_time(connection: Connection) -> None:
    ids = await write(connection, 1)
    due = await outbox.next_publication(connection)
    assert due is not None
    assert due <= 0
    for expected in (60, 120, 240, 480, 960, 1920, 3840, 3840):
        await outbox.mark_published(connection, ids, delay=60)
        due = await outbox.next_publication(connection)
        assert due is not None
        assert expected - 5 < due <= expected
        assert await claim(connection) == []
    await connection.execute("UPDATE outbox SET publish_after = now()")
    assert await claim(connection) == ids


async def test_a_claim_is_bounded_by_size(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await write(connection, 3)
    monkeypatch.setattr(outbox, "CLAIM_SIZE", 1)
    assert await claim(connection) == ids[:1]


async def test_a_frozen_relay_loses_its_locks(connection: Connection, database_url: str) -> None:
    ids = await write(connection, 1)
    async with await AsyncConnection.connect(database_url, autocommit=True, row_factory=dict_row) as frozen:
        await frozen.execute("BEGIN")
        assert await claim(frozen, idle_seconds=0.05) == ids
        # What a worker does that has finished the job: it waits for the frozen relay's end.
        await connection.execute("DELETE FROM outbox")
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await frozen.execute("SELECT 1")
    assert (await outbox.measure(connection)).jobs == 0


async def test_measures(connection: Connection) -> None:
    assert await outbox.measure(connection) == outbox.OutboxSize(0, 0, 0.0)
    ids = await write(connection, 3)
    await connection.execute("UPDATE outbox SET publish_after = now() - interval '1 hour'")
    await outbox.mark_published(connection, ids[:1], delay=60)
    size = await outbox.measure(connection)
    assert (size.jobs, size.unpublished) == (3, 2)
    assert 3600 <= size.age < 3700


async def test_row_goes_when_the_job_ends(executor: Executor, connection: Connection) -> None:
    """Done, failed for good, cancelled, a dead letter: nobody publishes it any more."""
    asked = [insertion(), contract("delete", pattern_id=uuid4()), insertion(), insertion()]
    for one in asked:
        async with connection.transaction():
            await outbox.add(connection, one)
    assert (await executor.execute_once(asked[0])).success
    failed = await executor.execute_once(asked[1])
    assert not failed.success
    await ledger.cancel(connection, asked[2].correlation_id)
    assert (await outbox.measure(connection)).jobs == 1
    await dead_letters.add(connection, asked[3], failed, attempts=5)
    assert (await outbox.measure(connection)).jobs == 0


async def test_a_job_that_was_done_already_is_published_once(
    node: NodePatternStorageEffect, connection: Connection
) -> None:
    asked = insertion()
    assert (await node.execute_once(asked)).success
    async with connection.transaction():
        await outbox.add(connection, asked)
    assert [job.finished for job in await outbox.claim(connection)] == [False]
    await outbox.mark_published(connection, [asked.correlation_id], delay=60)
    await connection.execute("UPDATE outbox SET publish_after = now()")
    assert [job.finished for job in await outbox.claim(connection)] == [True]


async def test_claim_reads_only_what_is_due(connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO outbox (correlation_id, contract, publish_after)"
        " SELECT gen_random_uuid(), '{}', now() + n * interval '1 minute' FROM generate_series(-9, 20000) n"
    )
    await connection.execute("ANALYZE outbox")
    assert len(await claim(connection)) == 10
    for name in ("claim_jobs", "next_publication"):
        statement = f"EXPLAIN (FORMAT JSON) {block(name)}"
        found = await (await connection.execute(statement.encode(), {"limit": 500, "size": 1000})).fetchone()
        plan = json.dumps(found)
        assert "outbox_publish_after" in plan
        assert "Seq Scan" not in plan
