"""PostgreSQL behind PgBouncer in transaction mode: no session keeps anything from one transaction to the next."""

from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from tasks.client import PatternStorageClient
from tests.fix_celery import worker_connections
from tests.fix_everything import do_everything
from tests.fix_faults import Launch, Load
from tests.fix_pgbouncer import PgBouncer
from tests.fix_process import ProcessGroup

#: What a deployment behind PgBouncer sets. The timeouts are then the role's, see docs/operations.md.
POOLED = {"PATTERN_STORAGE_PREPARE_THRESHOLD": "-1"}


@pytest.fixture
def pooled_url(pgbouncer: PgBouncer, database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = psycopg.sql.Identifier(connection.info.dbname)
        connection.execute(psycopg.sql.SQL("ALTER DATABASE {} SET lock_timeout = '300ms'").format(name))
    return pgbouncer.url(database_url)


def test_everything(
    pooled_url: str, database_url: str, redis_url: str, launch: Launch, start_process: Callable[..., ProcessGroup]
) -> None:
    """Commands, worker, relay and an application that writes into the outbox, all of them through PgBouncer."""
    urls = {"DATABASE_URL": pooled_url, "REDIS_URL": redis_url, **POOLED}
    launch(pooled_url, redis_url, env=POOLED | {"PATTERN_STORAGE_MAX_ATTEMPTS": "1000"})
    start_process("tasks.cli", "relay", **urls)
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
    assert 1 <= len(worker_connections(database_url)) <= 2
