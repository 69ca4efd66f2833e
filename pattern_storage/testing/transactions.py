"""Transactions of the application in which `submit_in` was called: those that rolled back sent no job.

Only the server knows how a transaction ended, for all libraries. It is asked over a connection to DATABASE_URL;
if there is none, or it is another server, a transaction counts as committed.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

import psycopg

from pattern_storage.storage.caller_connection import AsyncExecute, Execute

#: The start time of the server, which tells it from others, and the number of the transaction.
CURRENT = """
    SELECT CAST(extract(epoch FROM pg_postmaster_start_time()) AS text), CAST(pg_current_xact_id() AS text)
    WHERE %(jobs)s <> ''
"""
#: The server is compared first: a transaction number that it has not assigned yet would be an error.
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
    """Return the open transaction of a synchronous connection; None without DATABASE_URL."""
    return Transaction(*execute(CURRENT, "jobs")[0]) if "DATABASE_URL" in os.environ else None


async def current_async(execute: AsyncExecute) -> Transaction | None:
    """Return the open transaction of an asynchronous connection; see `current`."""
    return Transaction(*(await execute(CURRENT, "jobs"))[0]) if "DATABASE_URL" in os.environ else None


def rolled_back(transactions: Iterable[Transaction]) -> set[Transaction]:
    """Return the transactions that are known to have rolled back."""
    numbers: dict[str, list[str]] = {}
    for transaction in transactions:
        numbers.setdefault(transaction.server, []).append(transaction.number)
    if not numbers or "DATABASE_URL" not in os.environ:
        return set()
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, connect_timeout=5) as connection:
            return {
                Transaction(server, number)
                for server, started in numbers.items()
                for (number,) in connection.execute(ABORTED, [started, server]).fetchall()
            }
    except psycopg.Error:
        return set()
