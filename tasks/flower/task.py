"""Flower's record of a job: built of Celery's events, without template code, and with its progress."""

import re
from typing import Any

from celery import states
from celery.events.state import Task

from pattern_storage.vocabulary import JobState

#: How the events of a storage job name its failure, see `StorageOperationFailed.__repr__`.
FAILURE = re.compile(r"Storage\w+\((.*)\)", re.DOTALL)
#: The state of a dead letter; its event is `task-dead`, see `event_cleaning`.
DEAD = "DEAD"
PATTERN_ID = re.compile(r"'pattern_id': '([0-9a-f-]{36})'")


class FlowerTask(Task):
    """Takes the place of Celery's own class in Flower, which reads the attributes named in `_fields`.

    Each event is cleaned before it is kept, so that lists, pages, search, API and file hold the same. `result` says
    in all states how it goes: what came out, why it failed, why it is retried, how far it is.
    """

    progress: str | None = None
    dead: float | None = None
    # Without what is no more than the `repr` of another job; celery-types does not know `_fields`.
    _fields = (*(name for name in Task._fields if name not in {"root", "parent"}), "progress", "dead")  # type: ignore[attr-defined]

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
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
        """Take over what an event says."""
        told = dict(fields or {})
        if type_ == "progress":
            told = {} if self.ready else told | _progress(told)
        told |= _reason(type_, told)
        name = str(told.get("name") or self.name)
        if name.startswith("storage."):
            if told.get("kwargs"):
                # The `repr` of all arguments, by a plain `send_task`. A worker, maybe heard before, describes them.
                told |= {"args": self.args or f"{name.removeprefix('storage.')}, no worker has it yet", "kwargs": ""}
            if type_ == "succeeded":
                told["result"] = _summary(str(told.get("result")))
        super().event(type_, timestamp, local_received, told, precedence=precedence)


def precedence(state: str) -> int:
    """Return how late a state comes in a job's life, the last as 0: when events overtake each other, it decides.

    Celery takes a state that it does not know for later than REVOKED: a cancelled import would run for ever.
    """
    if state == JobState.PROGRESS:
        return 2 * states.precedence(JobState.STARTED) - 1
    return 2 * states.precedence(JobState.FAILURE if state == DEAD else state)


def _progress(fields: dict[str, Any]) -> dict[str, str]:
    """Return for example `1,200 of 5,000 (24 %), 830/s`. Takes anything: events come from the broker."""
    current, total, rate = (
        value if isinstance(value := fields.get(name), int | float) else None for name in ("current", "total", "rate")
    )
    text = f"{current or 0:,}"
    if total:
        text += f" of {total:,} ({(current or 0) / total:.0%})".replace("%", " %")
    if rate is not None:
        text += f", {rate:,.0f}/s"
    return {"progress": text, "result": text}


def _reason(type_: str | None, told: dict[str, Any]) -> dict[str, Any]:
    """Return why a job failed, is retried or was cancelled, in place of what came with the event."""
    match type_:
        case "failed" | "retried" | "dead":
            exception = str(told.get("exception"))
            if failure := FAILURE.fullmatch(exception):
                # A failed operation is a result: where we raised it tells nobody anything.
                return {"exception": failure[1], "result": failure[1], "traceback": None}
            return {"result": exception}
        case "revoked":
            return {"result": "expired" if told.get("expired") else "cancelled"}
        case _:
            return {}


def _summary(result: str) -> str:
    """Return what a storage job's result, of which an event has the beginning, comes to."""
    found = PATTERN_ID.search(result)
    return f"pattern {found[1]}" if found else "done"
