"""Results of a run, round by round, and the medians with their spread."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """One column of a part's table; its metric may be `name:95`, that percentile of all rounds' samples."""

    title: str
    metric: str
    digits: int = 0


JOBS = Column("jobs/s", "jobs_per_second")
CPU = Column("worker CPU ms", "cpu_ms", 2)

#: What each part measures. The rows of `jobs`, `enqueue` and `latency` are peers, the others' a peer and a size.
PARTS: dict[str, tuple[Column, ...]] = {
    "jobs": (
        JOBS,
        CPU,
        Column("Redis round trips", "redis_round_trips", 1),
        Column("Redis commands", "redis_commands", 1),
        Column("PostgreSQL round trips", "postgres_round_trips", 2),
        Column("SQL statements", "statements", 1),
        Column("transactions", "transactions", 2),
        Column("memory MiB", "memory_mib"),
    ),
    "enqueue": (
        Column("one by one/s", "enqueue_per_second"),
        Column("its CPU us", "enqueue_cpu_us"),
        Column("in bulk/s", "enqueue_many_per_second"),
    ),
    "latency": (
        Column("low load p50 ms", "low_ms:50", 1),
        Column("p95", "low_ms:95", 1),
        Column("p99", "low_ms:99", 1),
        Column("beside 500 jobs/s p50 ms", "same_ms:50", 1),
        Column("p95", "same_ms:95", 1),
        Column("p99", "same_ms:99", 1),
        Column("half load p50 ms", "half_ms:50", 1),
        Column("p95", "half_ms:95", 1),
        Column("p99", "half_ms:99", 1),
        Column("half load, jobs/s", "half_rate"),
    ),
    "processes": (JOBS, CPU, Column("memory MiB", "memory_mib")),
    "batches": (
        Column("rows/s", "rows_per_second"),
        Column("raw COPY rows/s", "copy_rows_per_second"),
        Column("of COPY", "of_copy", 2),
        Column("one batch p50 ms", "batch_ms:50", 1),
    ),
    "rows": (JOBS, CPU, Column("PostgreSQL CPU ms", "postgres_ms", 3), Column("low load p50 ms", "low_ms:50", 1)),
    "queued": (
        JOBS,
        CPU,
        Column("enqueued in bulk/s", "fill_per_second"),
        Column("Redis KiB a queued job", "queued_kib", 2),
    ),
}


@dataclass(frozen=True)
class Value:
    """The median of the rounds, and the farthest round's distance from it as a part of it."""

    median: float
    spread: float


class Results:
    """All rounds of all rows of one part."""

    def __init__(self, part: str) -> None:
        self.columns = PARTS[part]
        self._rounds: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))

    def add(self, row: str, measured: dict[str, Any]) -> None:
        """Enter one round; what has no column is left out."""
        for name in {column.metric.partition(":")[0] for column in self.columns} & measured.keys():
            self._rounds[row][name].append(measured[name])

    def values(self) -> dict[str, dict[str, Value]]:
        """Return the values of each row by metric."""
        return {
            row: {column.metric: self._value(row, column.metric) for column in self.columns} for row in self._rounds
        }

    def _value(self, row: str, metric: str) -> Value:
        name, _, percent = metric.partition(":")
        rounds = self._rounds[row][name]
        if not rounds:
            return Value(math.nan, 0.0)
        if not percent:
            each, middle = rounds, statistics.median(rounds)
        else:
            each = [percentile(samples, float(percent)) for samples in rounds]
            middle = percentile([sample for samples in rounds for sample in samples], float(percent))
        return Value(middle, max(abs(value - middle) for value in each) / middle if middle else 0.0)


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that so many percent do not exceed."""
    return sorted(samples)[max(0, math.ceil(len(samples) * percent / 100) - 1)]
