"""Cancelling of jobs in the ledger: job or canceller, whoever is first decides. Alone and in a group, by `executor`."""

import asyncio
from uuid import uuid4

from pattern_storage.storage import (
    ledger,
    outbox,
)
from tests.fix_both_ways import OWN
from tests.fix_storage import (
    Connection,
    Executor,
    Pool,
    contract,
    count,
    count_waiting,
    make_pattern,
    succeed_once,
    until,
)


async def test_cancelled_before_it_ran(executor: Executor, connection: Connection) -> None:
    asked = contract("insert", data=make_pattern())
    assert (await ledger.cancel(connection, asked.correlation_id)).metadata["error_type"] == "revoked"
    result = await executor.execute_once(asked)
    assert (result.metadata["error_type"], result.metadata["replayed"]) == ("revoked", True)
    assert await count(connection, f"pattern_templates {OWN}") == 0


async def test_cancelled_while_it_commits(executor: Executor, connection: Connection) -> None:
    """Cancelling and committing at the same moment: both sides agree on who was first."""
    for _ in range(30):
        asked = contract("insert", data=make_pattern())
        done, cancelled = await asyncio.gather(
            executor.execute_once(asked), ledger.cancel(connection, asked.correlation_id)
        )
        assert done.success == cancelled.success
    assert await count(connection, f"pattern_templates {OWN}") == sum(
        1
        for row in await (await connection.execute(f"SELECT result FROM job_ledger {OWN}")).fetchall()
        if row["result"]["success"]
    )


#: Keeps a transaction that has written a pattern at its commit until `go` has a row.
WAIT_AT_COMMIT = """
CREATE TABLE go ();
CREATE FUNCTION wait_to_go() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.002); END LOOP;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER wait_to_go AFTER INSERT ON pattern_templates DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_to_go();
"""
AT_COMMIT = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


async def test_cancelled_between_its_effect_and_its_commit(
    executor: Executor, connection: Connection, pool: Pool
) -> None:
    """The canceller waits, and learns that the job was first."""
    await connection.execute(WAIT_AT_COMMIT)
    asked = contract("insert", data=make_pattern())
    async with pool.connection() as other:

        async def commits() -> bool:
            return bool(await (await other.execute(AT_COMMIT)).fetchall())

        async def canceller_waits() -> bool:
            return await count_waiting(other) == 1

        running = [asyncio.create_task(executor.execute_once(asked))]
        await until(commits)
        running.append(asyncio.create_task(ledger.cancel(connection, asked.correlation_id)))
        await until(canceller_waits)
        await other.execute("INSERT INTO go DEFAULT VALUES")
    done, cancelled = await asyncio.gather(*running)
    assert done.success
    assert cancelled == done
    assert await count(connection, f"pattern_templates {OWN}") == 1


async def test_cancelled_while_it_ends_and_a_relay_holds_its_row(
    executor: Executor, connection: Connection, pool: Pool
) -> None:
    """Both write the ledger first: in another order the one would wait for the row, and the other for the first."""
    asked = contract("insert", data=make_pattern())
    async with connection.transaction():
        await outbox.add(connection, asked)
    async with pool.connection() as relay:
        async with relay.transaction():
            assert await outbox.claim(relay)

            async def both_wait() -> bool:
                return await count_waiting(relay) == len(running)

            running = [asyncio.create_task(ledger.cancel(connection, asked.correlation_id))]
            await until(both_wait)
            running.append(asyncio.create_task(executor.execute_once(asked)))
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


async def test_cancelled_after_it_was_done(executor: Executor, connection: Connection) -> None:
    asked = await succeed_once(executor, contract("insert", data=make_pattern()))
    assert (await ledger.cancel(connection, asked.correlation_id)).success
