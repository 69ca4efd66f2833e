"""Page of the overview: problems as sentences, and the figures of the last hour and day as plots."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from pattern_storage.storage import dead_letters, import_progress, outbox
from pattern_storage.storage.figures import Quantiles, Span
from pattern_storage.storage.import_progress import StuckRun
from pattern_storage.storage.outbox import OutboxSize
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.cli.finding import Finding
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.tasks.flower.pages.base import PageHandler
from pattern_storage.tasks.flower.pages.figures import SPANS, Rates
from pattern_storage.tasks.flower.pages.plots import Line, lines

#: Seconds that a page waits for its first figures.
PATIENCE = 1.0

#: Times below a plot, not counting the first.
TICKS = 4

#: Pages on which to act on what a check found, by a word in its subject.
SUBJECTS = {"worker": "workers", "queue": "queues", "import": "imports", "beat": "imports", "relay": "queues"}

#: The subject of the check of the dead letters.
LETTERS = "dead letters"


@dataclass(frozen=True)
class Problem:
    """A sentence that says what is wrong, and the page on which to act."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class State:
    """Present figures of PostgreSQL that are cheap enough to be asked for each page."""

    letters: int
    outbox: OutboxSize
    stuck: list[StuckRun]


async def measure(connection: Connection) -> State:
    """Return the present figures."""
    return State(
        await dead_letters.count(connection), await outbox.measure(connection), await import_progress.stuck(connection)
    )


class OverviewPage(PageHandler):
    """The overview, GET /overview."""

    tab = "overview"

    async def get(self) -> None:
        """Show problems, figures and checks."""
        chosen = self.choice("span", SPANS, "hour")
        figures = self.figures
        state, trouble = None, ""
        try:
            state = await self.backend.run(measure)
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
            "overview.html", problems=problems, checks=checks, checked_at=figures.checks.computed_at, state=state,
            chosen=chosen,
            waiting=sum(queue.waiting for queue in queues),
            oldest=min((queue.oldest_at for queue in queues if queue.oldest_at), default=None), spans=list(SPANS),
            totals=totals(rates, SPANS[chosen][0]), plots=plots(spans, SPANS[chosen][0]),
            workers=sum(1 for worker in self.application.events.state.workers.values() if worker.alive),
        )  # fmt: skip

    def _of_state(self, state: State) -> Iterator[Problem]:
        if state.letters:
            yield Problem(
                f"{formatting.plural(state.letters, 'dead letter')} to replay or discard", self.href("dead-letters")
            )
        for run in state.stuck:
            text = f"import {run.name}: no progress for {formatting.age(run.updated_at)}"
            yield Problem(text, self.href("import-run", run.run_id))

    def _of_checks(self, checks: list[Finding]) -> Iterator[Problem]:
        for check in checks:
            # Dead letters are counted anew for each page, see `_of_state`.
            if not check.ok and check.subject != LETTERS:
                route = next((route for word, route in SUBJECTS.items() if word in check.subject.lower()), "")
                # The advice names a command, which nobody needs who has a page for it.
                text = f"{check.subject}: {check.found}" + (f"; {check.advice}" if check.advice and not route else "")
                yield Problem(text, self.href(route) if route else "")


class FrontPage(PageHandler):
    """Redirect from Flower's front page to the overview."""

    def get(self) -> None:
        """Redirect."""
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
        ("Jobs a second; dashed: failed", lines(rate, "Jobs a second", formatting.rate, ticks)),
        (
            "Queue wait: median; dashed: 95 % are under it",
            lines(quantiles("waited"), "Wait in the queue", formatting.milliseconds, ticks),
        ),
        (
            "Duration: median; dashed: 95 % are under it",
            lines(quantiles("duration"), "Duration of jobs", formatting.milliseconds, ticks),
        ),
    ]
