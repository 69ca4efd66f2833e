"""Advisory locks of running imports, and what else their long transactions set for themselves."""

import hashlib
from contextlib import suppress
from uuid import UUID

from psycopg.errors import InvalidParameterValue
from psycopg.rows import scalar_row

from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block


def run_lock_key(run_id: UUID) -> int:
    """Return the key of the advisory lock on this run."""
    return _key(f"import run {run_id}")


def name_lock_key(name: str) -> int:
    """Return the key of the advisory lock on this import: one run at a time."""
    return _key(f"import {name}")


def open_runs_key(name: str) -> int:
    """Return the key of the advisory lock under which runs of this import are added, one at a time."""
    return _key(f"open runs of {name}")


def _key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"pattern-storage {text}".encode()).digest()[:8], signed=True)


async def lift_transaction_timeouts(connection: Connection) -> None:
    """Switch off the server's limits of a whole transaction and of idling in one, for the caller's transaction.

    An import waits for its source in the middle of its transaction; statements and the whole run have limits of ours.
    """
    await connection.execute(block("lift_transaction_timeouts"))


async def set_keepalives(connection: Connection) -> None:
    """Set TCP keepalives for the caller's transaction: it ends within half a minute of its client's host vanishing.

    PostgreSQL would hold its locks for two hours otherwise. Settings that a server or its system lacks are left out.
    """
    await connection.execute(block("set_keepalives"))
    with suppress(InvalidParameterValue):
        async with connection.transaction():
            await connection.execute(block("set_client_check"))


async def try_lock(connection: Connection, key: int) -> bool:
    """Try to take the advisory lock until the transaction ends; return whether it was free."""
    return bool(await fetch_value(connection, block("try_lock"), {"key": key}))


async def held_locks(connection: Connection) -> set[int]:
    """Return the keys of all advisory locks that are held now."""
    return set(await fetch_all(connection, scalar_row, block("held_locks")))
