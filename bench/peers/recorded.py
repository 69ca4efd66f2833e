"""The figures of the last full run, kept in bench/recorded.json, and the ratios that must not fall."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from bench.peers.registry import OURS
from bench.peers.results import Value

FILE = Path(__file__).parents[1] / "recorded.json"
#: A ratio that is below so much of the recorded one has fallen.
KEPT = 0.75

Rows = dict[str, dict[str, Value]]


@dataclass
class Recorded:
    """Values of each part by row and metric, and what they were measured on."""

    parts: dict[str, Rows] = field(default_factory=dict)
    #: Of each part: machine, day, rounds.
    conditions: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path = FILE) -> Self:
        """Return what was recorded; nothing if there is no file."""
        if not file.exists():
            return cls()
        found: dict[str, Any] = json.loads(file.read_text())
        for rows in found["parts"].values():
            for metrics in rows.values():
                metrics.update({name: Value(**value) for name, value in metrics.items()})
        return cls(**found)

    def save(self, file: Path = FILE) -> None:
        """Write it, one line a value so that a difference can be read."""
        file.write_text(json.dumps(asdict(self), indent=1, default=str) + "\n")


@dataclass(frozen=True)
class Ratio:
    """How many times better ours is in one metric."""

    title: str
    part: str
    metric: str
    #: Whether less is better.
    less: bool = False
    #: Against this peer; against the best of all if left out.
    peer: str | None = None

    def best_of(self, rows: Rows, peers: Iterable[str] | None = None) -> str | None:
        """Return the peer that ours is compared with: of these, or of all; None if it was not measured."""
        others = {
            name: rows[name][self.metric].median
            for name in rows
            if not name.startswith(OURS.name) and (peers is None or name in peers) and self.peer in (None, name)
        }
        choose: Callable[..., str | None] = min if self.less else max
        return choose(others, key=others.__getitem__, default=None)


RATIOS = (
    Ratio("jobs a second", "jobs", "jobs_per_second", peer="celery"),
    Ratio("jobs a second", "jobs", "jobs_per_second"),
    Ratio("worker CPU a job", "jobs", "cpu_ms", less=True, peer="celery"),
    Ratio("enqueue one by one", "enqueue", "enqueue_per_second"),
    Ratio("enqueue in bulk", "enqueue", "enqueue_many_per_second"),
    Ratio("latency p50 at low load", "latency", "low_ms:50", less=True),
)


def ratios(parts: Mapping[str, Rows], peers: Iterable[str] | None = None) -> dict[str, float]:
    """Return how many times better ours is, by what is measured and against whom; above 1 is better everywhere.

    Args:
        parts: The values.
        peers: The peers that the best is chosen of; all if left out.
    """
    found = {}
    for ratio in RATIOS:
        rows = parts.get(ratio.part, {})
        best = ratio.best_of(rows, peers)
        if OURS.name not in rows or best is None:
            continue
        ours, other = (rows[name][ratio.metric].median for name in (OURS.name, best))
        found[f"{ratio.title}, against {ratio.peer or 'the best peer'}"] = other / ours if ratio.less else ours / other
    return found


def best_peers(recorded: Recorded) -> list[str]:
    """Return the peers that were best in one of the ratios, each once."""
    best = (ratio.best_of(recorded.parts.get(ratio.part, {})) for ratio in RATIOS if ratio.peer is None)
    return sorted({name for name in best if name is not None})
