"""Flower's record of a job, built from Celery's events: without template code, and with the job's progress."""

import re
from typing import Any

from celery import states
from celery.events.state import Task

from pattern_storage.tasks.flower.pages import formatting
from pattern_storage.vocabulary import JobState

#: Exception in the events of a storage job that failed, see `StorageOperationFailed.__repr__`.
FAILURE = re.compile(r"Storage\w+\((.*)\)", re.DOTALL)
#: The state of a dead letter; its event is `task-dead`, see `event_validation`.
DEAD = "DEAD"
PATTERN_ID = re.compile(r"'pattern_id': '([0-9a-f-]{36})'")
#: Part of an import's result.
IMPORTED = re.compile(
    r"'state': '(\w+)', 'rows_read': (\d+), 'rows_inserted': (\d+), 'rows_updated': (\d+), 'rows_skipped': (\d+), "
    r"'rows_rejected': (\d+)"
)


class FlowerTask(Task):
    """Celery's class in Flower, which reads the attributes named in `_fields`.

    Each event is edited before it is kept, so that list, page, search, API and file say the same. `result` has a text
    in every state: the outcome, the reason of a failure or a retry, or the progress.
    """

    progress: str | None = None
    dead: float | None = None
    # Without `root` and `parent`, which are the `repr` of another job; celery-types does not know `_fields`.
    _fields = (*(name for name in Task._fields if name not in {"root", "parent"}), "progress", "dead")  # type: ignore[attr-defined]

    @property
    def ready(self) -> bool:
        """Whether the job has ended."""
        return self.state == DEAD or self.state in states.READY_STATES

    def event(
        self,
        type_: str | None,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: dict[str, Any] | None = None,
        *_: Any,
        **__: Any,
    ) -> None:
        """Take over the fields of an event."""
        values = dict(fields or {})
        if type_ == "progress":
            values = {} if self.ready else values | _progress(values)
        values |= _reason(type_, values)
        name = str(values.get("name") or self.name)
        if name.startswith("storage.") and values.get("kwargs"):
            # The `repr` of all arguments, from a plain `send_task`: template code. The events of a worker, which
            # may have come first, have a description instead.
            values |= {"args": self.args or f"{name.removeprefix('storage.')}, no worker has it yet", "kwargs": ""}
        if type_ == "succeeded" and name.startswith(("storage.", "imports.")):
            values["result"] = _summary(str(values.get("result")))
        super().event(type_, timestamp, local_received, values, precedence=precedence)


def precedence(state: str) -> int:
    """Return the rank of a state in a job's life, 0 for the last. It decides when events overtake each other.

    Celery ranks a state that it does not know after REVOKED: a cancelled import would be in PROGRESS for ever.
    """
    if state == JobState.PROGRESS:
        return 2 * states.precedence(JobState.STARTED) - 1
    return 2 * states.precedence(JobState.FAILURE if state == DEAD else state)


def _progress(fields: dict[str, Any]) -> dict[str, str]:
    """Return a text such as `1,200 of 5,000 (24 %), 830/s`, without the figures that an event does not have."""
    current, total, rate = (
        value if isinstance(value := fields.get(name), int | float) else None for name in ("current", "total", "rate")
    )
    text = f"{current or 0:,}"
    if total:
        text += f" of {total:,} ({(current or 0) / total:.0%})".replace("%", " %")
    if rate is not None:
        text += f", {rate:,.0f}/s"
    return {"progress": text, "result": text}


def _reason(type_: str | None, values: dict[str, Any]) -> dict[str, Any]:
    """Return the reason of a failure, a retry or a cancellation as fields that replace those of the event."""
    match type_:
        case "failed" | "retried" | "dead":
            exception = str(values.get("exception"))
            if failure := FAILURE.fullmatch(exception):
                # A failed operation is a result: its traceback leads to our own `raise` and helps nobody. The list has
                # the beginning of a long reason, the page of the job all of it.
                return {"exception": failure[1], "result": formatting.text(failure[1]), "traceback": None}
            return {"result": exception}
        case "revoked":
            return {"result": "expired" if values.get("expired") else "cancelled"}
        case _:
            return {}


def _summary(result: str) -> str:
    """Return the summary of a job's result, of which an event has only the beginning."""
    if found := PATTERN_ID.search(result):
        return f"pattern {found[1]}"
    if found := IMPORTED.search(result):
        state, *counts = found.groups()
        outcomes = zip(counts, ("read", "new", "changed", "skipped", "rejected"), strict=True)
        return ", ".join([state, *(f"{int(count):,} {outcome}" for count, outcome in outcomes if count != "0")])
    return "done"
