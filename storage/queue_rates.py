"""Throughput of queues, out of the ledger."""

from psycopg.rows import tuple_row

from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block

#: Seconds and number of the spans of a plot, and jobs of one span that stand for the others.
SPAN, SPANS, SAMPLE = 60.0, 60, 200


async def rates(connection: Connection, *, seconds: float = 60.0) -> dict[str, float]:
    """Return the jobs a second that ended in the last `seconds`, by queue."""
    rows = await fetch_all(connection, tuple_row, block("queue_rates"), {"seconds": seconds})
    return {queue: jobs / seconds for queue, jobs in rows}


async def history(connection: Connection) -> dict[str, list[float]]:
    """Return the jobs a second of each queue in each of the last SPANS spans, the oldest first."""
    found: dict[str, list[float]] = {}
    values = {"seconds": SPAN, "spans": SPANS, "sample": SAMPLE}
    for place, queue, jobs in await fetch_all(connection, tuple_row, block("queue_history"), values, prepare=False):
        if queue is not None:
            found.setdefault(queue, [0.0] * SPANS)[-place] = float(jobs) / SPAN
    return found
