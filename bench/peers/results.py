"""What was measured, round by round, and the medians, spreads and tables made of it."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

#: One value a round, or the list of a round's samples.
Rounds = dict[str, list[Any]]

#: Columns of the table that is printed: title, metric, digits.
COLUMNS = {
    "jobs": (
        ("jobs/s", "jobs_per_second", 0),
        ("CPU ms", "cpu_ms", 2),
        ("Redis trips", "redis_round_trips", 1),
        ("commands", "redis_commands", 1),
        ("SQL", "statements", 1),
        ("commits", "transactions", 2),
        ("MiB", "memory_mib", 0),
    ),
    "enqueue": (
        ("enqueue/s", "enqueue_per_second", 0),
        ("its CPU us", "enqueue_cpu_us", 0),
        ("in bulk/s", "enqueue_many_per_second", 0),
    ),
    "latency": (
        ("low p50", "low_ms:50", 1),
        ("p95", "low_ms:95", 1),
        ("p99", "low_ms:99", 1),
        ("half p50", "half_ms:50", 1),
        ("p95", "half_ms:95", 1),
        ("p99", "half_ms:99", 1),
        ("at jobs/s", "half_rate", 0),
    ),
}


class Results:
    """All rounds of all peers."""

    def __init__(self) -> None:
        self.peers: dict[str, Rounds] = defaultdict(lambda: defaultdict(list))

    def add(self, peer: str, measured: dict[str, Any]) -> None:
        """Enter one round."""
        for metric, value in measured.items():
            self.peers[peer][metric].append(value)

    def value(self, peer: str, metric: str) -> float:
        """Return the median of the rounds, with `name:95` that percentile of all samples; nan if there is none."""
        name, _, percent = metric.partition(":")
        rounds = self.peers[peer].get(name, [])
        if not rounds:
            return math.nan
        if not percent:
            return float(statistics.median(rounds))
        return percentile([sample for samples in rounds for sample in samples], float(percent))

    def spread(self, peer: str, metric: str) -> float:
        """Return the distance of the farthest round from the median, as a part of the median."""
        name, _, percent = metric.partition(":")
        rounds = self.peers[peer].get(name, [])
        values = [percentile(samples, float(percent)) if percent else samples for samples in rounds]
        middle = statistics.median(values)
        return max(abs(value - middle) for value in values) / middle if middle else 0.0

    def table(self, part: str) -> str:
        """Return a part's medians with their spread, as text."""
        rows = [["", *(title for title, _, _ in COLUMNS[part])]]
        for peer in self.peers:
            rows.append([peer, *(self._cell(peer, metric, digits) for _, metric, digits in COLUMNS[part])])
        return aligned(rows)

    def _cell(self, peer: str, metric: str, digits: int) -> str:
        value = self.value(peer, metric)
        return "-" if math.isnan(value) else f"{value:,.{digits}f} ±{self.spread(peer, metric):.0%}"


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that so many percent do not exceed."""
    return sorted(samples)[max(0, math.ceil(len(samples) * percent / 100) - 1)]


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells under each other, the first column to the left."""
    table = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in table
    )
