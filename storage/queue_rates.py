"""Throughput of queues, out of the ledger."""

from psycopg.rows import tuple_row

from pattern_storage.storage.operations.base import Connection
from pattern_storage.storage.sql import block

#: Seconds and number of the spans of a plot, and jobs of one span that stand for the others.
SPAN, SPANS, SAMPLE = 60.0, 60, 200


async def rates(connection: Connection, *, seconds: float = 60.0) -> dict[str, float]:
    """Return the jobs a second that ended in the last `seconds`, by queue."""
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(block("queue_rates"), {"seconds": seconds})
        return {queue: jobs / seconds for queue, jobs in await cursor.fetchall()}


async def history(connection: Connection) -> dict[str, list[float]]:
    """Return the jobs a second of each queue in each of the last SPANS spans, the oldest first."""
    found: dict[str, list[float]] = {}
    async with connection.cursor(row_factory=tuple_row) as cursor:
        values = {"seconds": SPAN, "spans": SPANS, "sample": SAMPLE}
        await cursor.execute(block("queue_history"), values, prepare=False)
        for place, queue, jobs in await cursor.fetchall():
            if queue is not None:
                found.setdefault(queue, [0.0] * SPANS)[-place] = float(jobs) / SPAN
    return found
