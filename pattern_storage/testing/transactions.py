"""The application's transactions in which `submit_in` has noted jobs: those that rolled back sent nothing.

Only the server knows how a transaction ended, whatever library ran it. It is asked by a connection to DATABASE_URL;
without one, or where that is another server, a transaction counts as committed.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

import psycopg

from pattern_storage.storage.caller_connection import AsyncExecute, Execute

#: Two words of a running server: when it was started, which tells it from others, and the transaction's number.
CURRENT = """
    SELECT CAST(extract(epoch FROM pg_postmaster_start_time()) AS text), CAST(pg_current_xact_id() AS text)
    WHERE %(jobs)s <> ''
"""
#: A number that was never given would be an error, so it is compared first.
ABORTED = """
    SELECT number FROM unnest(CAST(%s AS text[])) AS number
    WHERE CASE
        WHEN CAST(extract(epoch FROM pg_postmaster_start_time()) AS text) = %s
        THEN pg_xact_status(CAST(number AS xid8)) = 'aborted'
    END
"""


class Transaction(NamedTuple):
    """A top-level transaction of one server."""

    server: str
    number: str


def current(execute: Execute) -> Transaction | None:
    """Return the transaction that a synchronous connection has open; None where nobody could be asked about it."""
    return Transaction(*execute(CURRENT, "jobs")[0]) if "DATABASE_URL" in os.environ else None


async def current_async(execute: AsyncExecute) -> Transaction | None:
    """Return the transaction of an asynchronous connection; see `current`."""
    return Transaction(*(await execute(CURRENT, "jobs"))[0]) if "DATABASE_URL" in os.environ else None


def rolled_back(transactions: Iterable[Transaction]) -> set[Transaction]:
    """Return those that are known to have rolled back."""
    numbers: dict[str, list[str]] = {}
    for transaction in transactions:
        numbers.setdefault(transaction.server, []).append(transaction.number)
    if not numbers or "DATABASE_URL" not in os.environ:
        return set()
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, connect_timeout=5) as connection:
            return {
                Transaction(server, number)
                for server, some in numbers.items()
                for (number,) in connection.execute(ABORTED, [some, server]).fetchall()
            }
    except psycopg.Error:
        return set()
