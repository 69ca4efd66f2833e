"""Page of the overview: what is wrong, in words, and the figures of the last hour and day as plots."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from typing import Any

from pattern_storage.storage import dead_letters, import_progress, outbox, overview
from pattern_storage.storage.import_progress import StuckRun
from pattern_storage.storage.outbox import OutboxSize
from pattern_storage.storage.overview import Quantiles, Span
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.cli.doctor import check_all
from pattern_storage.tasks.cli.doctor_postgresql import Finding
from pattern_storage.tasks.flower.backend import Backend
from pattern_storage.tasks.flower.kept import Kept
from pattern_storage.tasks.flower.pages import words
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.flower.pages.plots import Line, lines
from pattern_storage.tasks.operate.queues import QueueDepth, depths

#: Seconds for which figures and checks are good.
GOOD = {"hour": 10.0, "day": 60.0, "checks": 20.0, "depths": 3.0}

#: Seconds that a page waits for its first figures.
PATIENCE = 1.0

SPANS = {"hour": overview.HOUR, "day": overview.DAY}

#: Times below a plot, but for the first.
TICKS = 4

#: Pages to see to what a check found, by a word of its subject.
SUBJECTS = {"worker": "workers", "queue": "queues", "import": "imports", "beat": "imports", "relay": "queues"}

#: The subject of the check of the dead letters.
LETTERS = "dead letters"


@dataclass(frozen=True)
class Problem:
    """What is wrong, in words, and where to see to it."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class State:
    """What PostgreSQL says of the present."""

    letters: int
    outbox: OutboxSize
    stuck: list[StuckRun]


async def measure(connection: Connection) -> State:
    """Return what PostgreSQL says of the present."""
    return State(
        await dead_letters.count(connection), await outbox.measure(connection), await import_progress.stuck(connection)
    )


@dataclass(frozen=True)
class Rates:
    """The spans of a plot, and the quantiles of all of its time."""

    spans: list[Span]
    quantiles: Quantiles


class Figures:
    """Figures and checks that take long, each found out at most every few seconds, for all who look."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.rates: dict[str, Kept[Rates]] = {name: Kept(partial(self._rates, name), GOOD[name]) for name in SPANS}
        self.depths: Kept[list[QueueDepth]] = Kept(self._depths, GOOD["depths"])
        self.checks: Kept[list[Finding]] = Kept(self._checks, GOOD["checks"])

    async def _rates(self, name: str) -> Rates:
        seconds, count = SPANS[name]
        spans = await self._backend.ask(partial(overview.rates, seconds=seconds, spans=count))
        return Rates(spans, await self._backend.ask(partial(overview.quantiles, seconds=seconds * count)))

    async def _depths(self) -> list[QueueDepth]:
        return await self._backend.in_thread(depths, self._backend.settings)

    async def _checks(self) -> list[Finding]:
        return await self._backend.in_thread(check_all, self._backend.settings)


class OverviewPage(PageHandler):
    """The overview, GET /overview."""

    tab = "overview"

    async def get(self) -> None:
        """Show it."""
        chosen = self.choice("span", SPANS, "hour")
        figures = self._figures()
        state, trouble = None, ""
        try:
            state = await self.backend.ask(measure)
        except Exception as error:
            trouble = str(error)
        rates = await figures.rates[chosen].get(PATIENCE) or Rates([], Quantiles(None, None))
        spans = rates.spans
        queues = await figures.depths.get(PATIENCE) or []
        checks = figures.checks.last()
        problems = [Problem(trouble)] if trouble else []
        problems += [*self._of_state(state)] if state else []
        problems += self._of_checks(checks or [])
        self.page(
            "overview.html", problems=problems, checks=checks, checked_at=figures.checks.found_at, state=state,
            chosen=chosen,
            waiting=sum(queue.waiting for queue in queues),
            oldest=min((queue.oldest_at for queue in queues if queue.oldest_at), default=None), spans=list(SPANS),
            totals=totals(rates, SPANS[chosen][0]), plots=plots(spans, SPANS[chosen][0]),
            workers=sum(1 for worker in self.application.events.state.workers.values() if worker.alive),
        )  # fmt: skip

    def _figures(self) -> Figures:
        kept: Figures = self.settings.setdefault("pattern_storage_figures", Figures(self.backend))
        return kept

    def _of_state(self, state: State) -> Iterator[Problem]:
        if state.letters:
            yield Problem(
                f"{words.plural(state.letters, 'dead letter')} to replay or discard", self.href("dead-letters")
            )

        for run in state.stuck:
            text = f"import {run.name}: no progress for {words.age(run.updated_at)}"
            yield Problem(text, self.href("import-run", run.run_id))

    def _of_checks(self, checks: list[Finding]) -> Iterator[Problem]:
        for each in checks:
            # Dead letters have been said already, and are counted at each look.
            if not each.ok and each.subject != LETTERS:
                route = next((route for word, route in SUBJECTS.items() if word in each.subject.lower()), "")
                # Who has a page to see to it needs no command.
                text = f"{each.subject}: {each.found}" + (f"; {each.advice}" if each.advice and not route else "")
                yield Problem(text, self.href(route) if route else "")


class FrontPage(PageHandler):
    """Flower's front page: leads to the overview."""

    def get(self) -> None:
        """Lead there."""
        self.redirect(self.href("overview"))


def totals(rates: Rates, seconds: float) -> dict[str, Any]:
    """Return the figures of all spans together."""
    spans = rates.spans
    jobs, failures = sum(span.jobs for span in spans), sum(span.failures for span in spans)
    return {
        "rate": jobs / (seconds * len(spans)) if spans else None,
        "jobs": jobs,
        "failures": failures,
        "waited": rates.quantiles.waited,
        "duration": rates.quantiles.duration,
    }


def plots(spans: Sequence[Span], seconds: float) -> list[tuple[str, str]]:
    """Return captions and SVGs."""
    if not spans:
        return []
    places = [round(part * (len(spans) - 1) / TICKS) for part in range(TICKS + 1)]
    ticks = [f"{spans[place].since.astimezone(UTC):%H:%M}" for place in places]

    def quantiles(name: str) -> list[Line]:
        found = [getattr(span, name) for span in spans]
        return [
            Line("median", [each and each[0] for each in found]),
            Line("95th percentile", [each and each[1] for each in found]),
        ]

    rate = [
        Line("jobs", [span.jobs / seconds for span in spans]),
        Line("failed", [span.failures / seconds for span in spans]),
    ]
    return [
        ("Jobs a second; dashed: failed", lines(rate, "Jobs a second", words.rate, ticks)),
        (
            "Queue wait: median; dashed: 95 % are under it",
            lines(quantiles("waited"), "Wait in the queue", words.milliseconds, ticks),
        ),
        (
            "Duration: median; dashed: 95 % are under it",
            lines(quantiles("duration"), "Duration of jobs", words.milliseconds, ticks),
        ),
    ]


ROUTES: list[tuple[str, str, type[Any]]] = [("overview", r"/overview", OverviewPage), ("front", r"/", FrontPage)]
