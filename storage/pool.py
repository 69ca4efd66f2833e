"""The psycopg 3 async pool with the settings that storage needs."""

from functools import partial
from typing import Any

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from pattern_storage.storage.connection import parameters, set_up


def create_pool(
    database_url: str,
    *,
    min_size: int = 2,
    max_size: int = 10,
    timeout: float = 10.0,
    prepare_threshold: int | None = 5,
    statement_timeout: float = 0.0,
    lock_timeout: float = 0.0,
    application_name: str = "pattern-storage",
) -> AsyncConnectionPool[AsyncConnection[Any]]:
    """Return a closed pool; open it on the event loop that will use it, after any fork. Raises ConninfoInvalid.

    Args:
        database_url: a libpq connection URL or conninfo.
        min_size: connections kept open.
        max_size: connections at most.
        timeout: seconds to wait for a free connection before `PoolTimeout`.
        prepare_threshold: prepare a statement after this many uses; None never (PgBouncer before 1.21).
        statement_timeout: seconds after which PostgreSQL cancels a statement; 0 leaves it to the server.
        lock_timeout: seconds a statement waits for a lock, which is then retried; 0 leaves it to the server.
        application_name: what pg_stat_activity shows.
    """
    return AsyncConnectionPool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        timeout=timeout,
        # Reconnecting goes on in the background; it must not outlast what a caller waits for.
        reconnect_timeout=max(timeout, 1.0),
        open=False,
        name=application_name,
        # Set once for each connection; PgBouncer does not keep time-outs (see `Settings.prepare_threshold`).
        configure=partial(set_up, statement_timeout=statement_timeout, lock_timeout=lock_timeout),
        kwargs={
            # No implicit BEGIN: every transaction is an explicit `async with connection.transaction()`.
            "autocommit": True,
            "prepare_threshold": prepare_threshold,
            **parameters(database_url, application_name=application_name, timeout=timeout),
        },
    )
