"""Figures out of the ledger: rates and failures of jobs, how long they waited and took, and throughput of queues."""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row, tuple_row

from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block

#: Newest jobs of which quantiles are taken: of one span of a plot, and of the whole time.
SPAN_SAMPLE = 500
SAMPLE = 20_000
#: Newest jobs of a span whose queues stand for those of all its jobs.
QUEUE_SAMPLE = 200

#: Seconds and number of the spans of a plot.
HOUR = (60.0, 60)
DAY = (1_800.0, 48)


@dataclass(frozen=True)
class Span:
    """Jobs that ended in one span of time; (0.5, 0.95) quantiles in ms, None where no job has such a time."""

    since: datetime
    jobs: int
    failures: int
    cancelled: int
    duration: tuple[float, float] | None
    waited: tuple[float, float] | None


@dataclass(frozen=True)
class Quantiles:
    """(0.5, 0.95) quantiles in ms of how long jobs took, and waited before; None where no job has such a time."""

    duration: tuple[float, float] | None
    waited: tuple[float, float] | None


async def rates(connection: Connection, *, seconds: float, spans: int) -> list[Span]:
    """Return the last `spans` spans of `seconds` each, the oldest first; see HOUR and DAY."""
    values = {"seconds": seconds, "spans": spans, "sample": SPAN_SAMPLE}
    return await fetch_all(connection, class_row(Span), block("job_rates"), values, prepare=False)


async def quantiles(connection: Connection, *, seconds: float) -> Quantiles:
    """Return the quantiles of the last `seconds`, of the last SAMPLE jobs at most."""
    values = {"seconds": seconds, "sample": SAMPLE}
    [found] = await fetch_all(connection, class_row(Quantiles), block("job_quantiles"), values, prepare=False)
    return found


async def queue_rates(connection: Connection, *, seconds: float = 60.0) -> dict[str, float]:
    """Return the jobs a second that ended in the last `seconds`, by queue."""
    rows = await fetch_all(connection, tuple_row, block("queue_rates"), {"seconds": seconds})
    return {queue: jobs / seconds for queue, jobs in rows}


async def queue_history(connection: Connection) -> dict[str, list[float]]:
    """Return the jobs a second of each queue in each span of the last HOUR, the oldest first."""
    seconds, spans = HOUR
    history: dict[str, list[float]] = {}
    values = {"seconds": seconds, "spans": spans, "sample": QUEUE_SAMPLE}
    for place, queue, jobs in await fetch_all(connection, tuple_row, block("queue_history"), values, prepare=False):
        if queue is not None:
            history.setdefault(queue, [0.0] * spans)[-place] = float(jobs) / seconds
    return history
