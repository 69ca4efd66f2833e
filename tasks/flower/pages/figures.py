"""Cached figures of the overview and the queues: each takes long, so all users share one computation."""

from dataclasses import dataclass
from functools import partial

from pattern_storage.storage import figures
from pattern_storage.storage.figures import Quantiles, Span
from pattern_storage.tasks.cli.doctor import check_all
from pattern_storage.tasks.cli.finding import Finding
from pattern_storage.tasks.flower.backend import Backend
from pattern_storage.tasks.flower.cached_value import CachedValue
from pattern_storage.tasks.operate.queues import QueueDepth, depths

#: Plots that the overview offers: seconds of one span, and the number of spans.
SPANS = {"hour": figures.HOUR, "day": figures.DAY}

#: Seconds for which each is fresh.
FRESH = {"hour": 10.0, "day": 60.0, "checks": 20.0, "depths": 3.0, "throughput": 10.0}


@dataclass(frozen=True)
class Rates:
    """The spans of a plot, and the quantiles of all of its time."""

    spans: list[Span]
    quantiles: Quantiles


class Figures:
    """Figures and checks, each computed at most every few seconds.

    Attributes:
        rates: by the name in `SPANS`, jobs, failures, waits and durations.
        depths: how much waits in each queue.
        checks: what `pattern-storage doctor` finds.
        throughput: jobs a second of each queue in the last hour.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.rates = {
            name: CachedValue(partial(self._rates, *SPANS[name]), f"the rates of the last {name}", FRESH[name])
            for name in SPANS
        }
        self.depths = CachedValue[list[QueueDepth]](
            partial(backend.in_thread, depths, backend.settings), "the depths of the queues", FRESH["depths"]
        )
        self.checks = CachedValue[list[Finding]](
            partial(backend.in_thread, check_all, backend.settings), "what is wrong", FRESH["checks"]
        )
        self.throughput = CachedValue[dict[str, list[float]]](
            partial(backend.run, figures.queue_history), "the throughput of the queues", FRESH["throughput"]
        )

    async def _rates(self, seconds: float, count: int) -> Rates:
        spans = await self._backend.run(figures.rates, seconds=seconds, spans=count)
        return Rates(spans, await self._backend.run(figures.quantiles, seconds=seconds * count))
