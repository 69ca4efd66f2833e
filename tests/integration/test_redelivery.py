"""Attempts are counted with as few connections as a process may have, and the lock on a job ends with the job."""

import asyncio

import psycopg
import pytest

from pattern_storage.storage import ModelContractPatternStorage, NodePatternStorageEffect
from pattern_storage.storage.pool import create_pool
from pattern_storage.tasks.worker.redelivery import execute_again
from tests.fix_storage import Connection, contract, count, count_waiting, fetch, make_pattern, until

MAX_ATTEMPTS = 3
#: Sessions of the pool that have a lock on a job.
LOCKS = """
SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND datname = current_database()
"""


async def begun(node: NodePatternStorageEffect, job: ModelContractPatternStorage) -> tuple[int, str | None]:
    """Execute the job again; return how often that was, and the error_type of its result, "" if it was not executed."""
    begun_again, result = await execute_again(node, job, MAX_ATTEMPTS)
    return begun_again, "" if result is None else result.metadata.get("error_type")


async def test_a_pool_of_one_connection(database_url: str, connection: Connection) -> None:
    """Each attempt is counted, though it fails; after the last the job is not executed, and its lock is free."""
    job = contract("insert", data=make_pattern())
    async with create_pool(database_url, min_size=1, max_size=1, timeout=5, lock_timeout=0.1) as pool:
        node = NodePatternStorageEffect(pool)
        async with connection.transaction():
            await connection.execute("LOCK TABLE pattern_templates")
            assert [await begun(node, job) for _ in range(MAX_ATTEMPTS)] == [
                (1, "transaction_conflict"), (2, "transaction_conflict"), (3, ""),
            ]  # fmt: skip
        assert fetch(database_url, LOCKS) == []
        assert await begun(node, contract("insert", data=job.data)) == (1, None)
        assert await begun(node, contract("query", query_params={})) == (1, None)
        # A failure that stays is recorded on the same connection, also that of a contract without a transaction.
        assert await begun(node, contract("insert", data=job.data)) == (1, "unique_violation")
        refused = ModelContractPatternStorage.model_construct(operation="insert", data={"pattern_name": 1})
        assert await begun(node, refused) == (1, "validation_error")
        assert await count(connection, "job_ledger") == 3
        assert fetch(database_url, LOCKS) == []


@pytest.mark.parametrize("size", [1, 2, 3, 4])
async def test_jobs_that_share_a_pool(size: int, database_url: str, connection: Connection) -> None:
    """As many as the pool has connections wait for a lock, and twice as many for a connection: none for another's."""
    jobs = [contract("insert", data=make_pattern()) for _ in range(3 * size)]
    async with create_pool(database_url, min_size=size, max_size=size, timeout=20) as pool:
        node = NodePatternStorageEffect(pool)
        async with asyncio.TaskGroup() as group, connection.transaction():
            await connection.execute("LOCK TABLE pattern_templates")
            running = [group.create_task(begun(node, job)) for job in jobs]

            async def all_wait() -> bool:
                return await count_waiting(connection) == size

            await until(all_wait)
    assert [task.result() for task in running] == [(1, None)] * len(jobs)


async def test_a_pool_whose_other_connection_is_in_use(database_url: str) -> None:
    """A job that is counted needs no more than a job that is not."""
    job = contract("insert", data=make_pattern())
    async with create_pool(database_url, min_size=2, max_size=2, timeout=0.5) as pool, pool.connection():
        assert await begun(NodePatternStorageEffect(pool), job) == (1, None)


async def test_the_count_stays_when_the_job_s_connection_is_lost(database_url: str, connection: Connection) -> None:
    job = contract("insert", data=make_pattern())
    async with create_pool(database_url, min_size=1, max_size=1, timeout=5) as pool:
        node = NodePatternStorageEffect(pool)
        async with asyncio.TaskGroup() as group, connection.transaction():
            await connection.execute("LOCK TABLE pattern_templates")
            running = group.create_task(begun(node, job))

            async def waits() -> bool:
                return await count_waiting(connection) == 1

            await until(waits)
            with psycopg.connect(database_url, autocommit=True) as other:
                other.execute(f"SELECT pg_terminate_backend(pid) FROM ({LOCKS}) AS holders")
            await asyncio.wait([running])
        assert running.result() == (1, "server_unavailable")
        assert await begun(node, job) == (2, None)


async def test_a_cancelled_attempt_leaves_no_lock(database_url: str, connection: Connection) -> None:
    """As at the soft time limit: the attempt has counted, and the connection goes on without the lock."""
    job = contract("insert", data=make_pattern())
    async with create_pool(database_url, min_size=1, max_size=1, timeout=5) as pool:
        node = NodePatternStorageEffect(pool)
        async with connection.transaction():
            await connection.execute("LOCK TABLE pattern_templates")
            running = asyncio.create_task(begun(node, job))

            async def waits() -> bool:
                return await count_waiting(connection) == 1

            await until(waits)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert fetch(database_url, LOCKS) == []
        assert await begun(node, job) == (2, None)
