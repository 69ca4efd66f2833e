"""Validation of events before Flower keeps them: a message from the broker may hold anything.

Celery's classes take over every field of an event as an attribute, whatever its name and type. An event with text in
the place of a number, or with a field called `event`, makes pages answer 500 and Flower's file unwritable for as long
as Flower remembers it.
"""

import re
import time
from collections.abc import Callable
from typing import Any

from pattern_storage.tasks.errors import DEAD_LETTER

#: Type of an event: its group, and what happened.
TYPE = re.compile(r"(?:task|worker)-[a-z0-9][a-z0-9-]{0,59}")

#: Characters at most of an identifier, of any other text, and of a traceback.
SHORT, LONG, LONGEST = 255, 5_000, 20_000

#: The year 3000, in Unix time; the largest whole number that JavaScript knows.
LAST_TIME, LARGEST = 32_503_680_000, 2**53

Check = Callable[[Any], Any]


def _text(limit: int) -> Check:
    def check(value: Any) -> str:
        try:
            text = value if isinstance(value, str) else repr(value)
        except RecursionError:
            text = "nested too deeply to be shown"
        # Half of a surrogate pair cannot be encoded for a page.
        return text[:limit].encode(errors="replace").decode()

    return check


def _number(least: float, largest: float) -> Check:
    def check(value: Any) -> float | None:
        # NaN fails both comparisons.
        return value if type(value) in (int, float) and least <= value <= largest else None

    return check


def _whole(least: int, largest: int) -> Check:
    def check(value: Any) -> int | None:
        return value if type(value) is int and least <= value <= largest else None

    return check


def _load(value: Any) -> list[float] | None:
    check = _number(0, LARGEST)
    return value if isinstance(value, list) and len(value) == 3 and None not in map(check, value) else None


def _flag(value: Any) -> bool:
    return value is True


_COMMON: dict[str, Check] = {
    "hostname": _text(SHORT),
    "timestamp": _number(0, LAST_TIME),
    "clock": _whole(0, LARGEST),
    "pid": _whole(0, LARGEST),
    "utcoffset": _number(-24, 24),
}
#: Check of each field of an event, by the event's group; a field that is not here is dropped.
FIELDS: dict[str, dict[str, Check]] = {
    "task": _COMMON
    | dict.fromkeys(
        ("uuid", "name", "exchange", "queue", "routing_key", "root_id", "parent_id", "client"), _text(SHORT)
    )
    | dict.fromkeys(("args", "kwargs", "result", "exception", "eta", "expires"), _text(LONG))
    | dict.fromkeys(("runtime", "current", "total", "rate"), _number(0, LARGEST))
    | dict.fromkeys(("terminated", "expired"), _flag)
    | {"traceback": _text(LONGEST), "retries": _whole(0, LARGEST)},
    "worker": _COMMON
    | dict.fromkeys(("sw_ident", "sw_ver", "sw_sys"), _text(SHORT))
    | dict.fromkeys(("active", "processed"), _whole(0, LARGEST))
    | {"freq": _number(0.001, 86_400), "loadavg": _load},
}


def validated(event: Any) -> dict[str, Any] | None:
    """Return the event with the fields that Flower reads, each of the right type; None if it names no job or worker."""
    if not isinstance(event, dict) or not isinstance(kind := event.get("type"), str) or not TYPE.fullmatch(kind):
        return None
    group = kind.partition("-")[0]
    required = ("hostname", "uuid") if group == "task" else ("hostname",)
    if not all(isinstance(event.get(name), str) and event[name] for name in required):
        return None
    if kind == "task-failed" and str(event.get("exception")).startswith(f"{DEAD_LETTER}("):
        # An event of its own gives dead letters a state, and a figure on the page of workers, of their own.
        kind = "task-dead"
    checked = {"timestamp": time.time(), "type": kind}
    for name, check in FIELDS[group].items():
        if event.get(name) is not None and (value := check(event[name])) is not None:
            checked[name] = value
    return checked
