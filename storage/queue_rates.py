"""Throughput of queues, out of the ledger."""

from psycopg.rows import tuple_row

from pattern_storage.storage.operations.base import Connection
from pattern_storage.storage.sql import block


async def rates(connection: Connection, *, seconds: float = 60.0) -> dict[str, float]:
    """Return the jobs a second that ended in the last `seconds`, by queue."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(block("queue_rates"), {"seconds": seconds})
        return {queue: jobs / seconds for queue, jobs in await cursor.fetchall()}
