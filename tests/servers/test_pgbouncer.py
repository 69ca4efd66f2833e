"""PostgreSQL behind PgBouncer in transaction mode: no session keeps anything from one transaction to the next."""

import asyncio
from contextlib import closing

import pytest

from pattern_storage.storage import NodePatternStorageEffect
from pattern_storage.storage.pool import create_pool
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.worker.redelivery import execute_again
from tests.fix_everything import PATIENT, do_everything
from tests.fix_faults import Launch
from tests.fix_load import Load
from tests.fix_pgbouncer import PgBouncer
from tests.fix_process import StartProcess
from tests.fix_storage import contract, fetch, make_pattern

#: What a deployment behind PgBouncer sets.
POOLED = {"PATTERN_STORAGE_PREPARE_THRESHOLD": "-1"}

#: PgBouncer's to this database. Each has the name of its last user, which may be a worker's poll for paused queues.
CONNECTIONS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name IN ('pattern-storage worker', 'pattern-storage pauses')
"""

#: Sessions of this database that have a lock on a job.
LOCKS = """
SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND datname = current_database()
"""


@pytest.fixture
def pooled_url(pgbouncer: PgBouncer, database_url: str) -> str:
    return pgbouncer.url(database_url)


def test_everything(
    pooled_url: str, database_url: str, redis_url: str, launch: Launch, start_process: StartProcess
) -> None:
    """Commands, worker, relay and an application that writes into the outbox, all of them through PgBouncer."""
    urls = {"DATABASE_URL": pooled_url, "REDIS_URL": redis_url, **POOLED}
    launch(pooled_url, redis_url, env=POOLED | PATIENT)
    start_process("pattern_storage", "relay", **urls)
    with PatternStorageClient(database_url=pooled_url, redis_url=redis_url) as client:
        do_everything(client, database_url)


def test_more_connections_than_the_server_has(
    pgbouncer: PgBouncer, pooled_url: str, database_url: str, redis_url: str, launch: Launch
) -> None:
    """Three workers with ten connections each share two of the server's."""
    sizes = {"PATTERN_STORAGE_POOL_MIN_SIZE": "5", "PATTERN_STORAGE_POOL_MAX_SIZE": "5"}
    with closing(Load(database_url, redis_url)) as load:
        for _ in range(3):
            launch(pooled_url, redis_url, env=POOLED | sizes)
        load.submit(load.mixed(400))
        assert load.settle().counts == {"done": 400}
    assert 1 <= len(fetch(database_url, CONNECTIONS)) <= 2


async def test_attempts_are_counted(pooled_url: str, database_url: str) -> None:
    """The lock on a job is kept over a commit, and no session has it when the job has ended."""
    async with create_pool(pooled_url, min_size=8, max_size=8, prepare_threshold=None) as pool:
        node = NodePatternStorageEffect(pool, timeouts={"insert": 60}, lock_timeout=10)
        jobs = [contract("insert", data=make_pattern()) for _ in range(40)]
        ends = await asyncio.gather(*(execute_again(node, job, 5) for job in jobs))
    assert [begun_again for begun_again, _ in ends] == [1] * 40
    assert all(result is not None and result.success for _, result in ends)
    assert fetch(database_url, LOCKS) == []
