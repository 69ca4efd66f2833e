"""Figures of the last hour and day out of the ledger: rates, failures, and how long jobs waited and took."""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row, tuple_row

from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block

#: Jobs of one span that the quantiles of a plot are about, and of the whole time: the last ones.
SPAN_SAMPLE = 500
SAMPLE = 20_000

#: Seconds and number of the spans of a plot.
HOUR = (60.0, 60)
DAY = (1_800.0, 48)


@dataclass(frozen=True)
class Span:
    """Jobs that ended in one span of time; (0.5, 0.95) quantiles in ms, None where there is nothing to tell."""

    since: datetime
    jobs: int
    failures: int
    cancelled: int
    duration: tuple[float, float] | None
    waited: tuple[float, float] | None


async def rates(connection: Connection, *, seconds: float, spans: int) -> list[Span]:
    """Return the last `spans` spans of `seconds` each, the oldest first; see HOUR and DAY."""
    values = {"seconds": seconds, "spans": spans, "sample": SPAN_SAMPLE}
    return await fetch_all(connection, class_row(Span), block("job_rates"), values, prepare=False)


@dataclass(frozen=True)
class Quantiles:
    """(0.5, 0.95) quantiles in ms of how long jobs took, and waited before; None where there is nothing to tell."""

    duration: tuple[float, float] | None
    waited: tuple[float, float] | None


async def quantiles(connection: Connection, *, seconds: float) -> Quantiles:
    """Return the quantiles of the last `seconds`, of the last SAMPLE jobs at most."""
    values = {"seconds": seconds, "sample": SAMPLE}
    [row] = await fetch_all(connection, tuple_row, block("job_quantiles"), values, prepare=False)
    return Quantiles(*(None if found is None or found[0] is None else (found[0], found[1]) for found in row))
