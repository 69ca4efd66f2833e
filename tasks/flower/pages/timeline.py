"""Timeline of a job: events from PostgreSQL and from its result, and between them those that Flower has seen."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pattern_storage.storage.job_details import CLAIMED, COMMITTED, FAILED_ATTEMPT, STARTED, STORED, SUBMITTED, Event
from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.vocabulary import ListedState

#: Step for each time in Flower's own record of a job. Workers send the event of the end after they stored the result.
TIMES = {
    "sent": SUBMITTED, "received": CLAIMED, "started": STARTED, "retried": FAILED_ATTEMPT, "succeeded": STORED,
    "failed": STORED, "dead": str(ListedState.DEAD), "revoked": str(ListedState.REVOKED),
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A step of the timeline, as the page shows it."""

    at: datetime
    what: str
    about: str = ""
    kind: str = ""
    after: str = ""


def steps(events: list[Event], seen: Any) -> list[Step]:
    """Return the steps in order of time: the events, and those that only Flower has seen."""
    found = [
        Step(
            event.at, event.what,
            "; ".join(filter(None, (event.error_type and f"{event.error_type}: {event.error or ''}",
                                    event.worker and f"on {event.worker}"))),
            kind_of(event.what),
        )
        for event in events
    ]  # fmt: skip
    known = {step.what for step in found}
    first_failure = min((step.at for step in found if step.what == FAILED_ATTEMPT), default=None)
    for name, what in TIMES.items():
        moment = getattr(seen, name, None)
        if isinstance(moment, int | float) and what not in known:
            at = datetime.fromtimestamp(moment, UTC)
            # Flower keeps the last time of each kind.
            again = " again" if first_failure and at > first_failure and name in ("sent", "received", "started") else ""
            found.append(Step(at, what + again, kind=kind_of(what)))
    found.sort(key=lambda step: step.at)
    return [
        Step(step.at, step.what, step.about, step.kind, formatting.seconds((step.at - before.at).total_seconds()))
        if before else step
        for before, step in zip([None, *found], found, strict=False)
    ]  # fmt: skip


def kind_of(what: str) -> str:
    """Return the CSS class of a step."""
    if what == COMMITTED:
        return "good"
    return "bad" if what in (ListedState.FAILURE, ListedState.DEAD, FAILED_ATTEMPT) else ""
