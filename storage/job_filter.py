"""Filters and cursors of job lists, parsed and checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from pattern_storage.storage.errors import FilterInvalid
from pattern_storage.storage.explanation import did_you_mean, printable
from pattern_storage.vocabulary import IMPORT_OPERATION, ErrorType, ListedState, OperationName

OPERATIONS = (*map(str, OperationName), IMPORT_OPERATION)
#: What a list may be sorted by. Only jobs that have ended have a duration.
SORTS = ("time", "duration")


@dataclass(frozen=True)
class JobFilter:
    """Filter of jobs; all given conditions must hold.

    `since` is inclusive, `until` is not. Both refer to the time of the state: when a job ended, died, was written or
    began.
    """

    states: tuple[ListedState, ...] = ()
    operation: str | None = None
    error_type: str | None = None
    pattern_name: str | None = None
    queue: str | None = None
    correlation_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def parse(cls, given: Mapping[str, str | None]) -> Self:
        """Build a filter from texts, as of a URL or a command line; empty ones are left out. Raises FilterInvalid."""
        known = [field.name for field in fields(cls)]
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name not in known:
                raise FilterInvalid(f"unknown filter {printable(name)[:60]!r}; {did_you_mean(printable(name), known)}")
            if text is not None and text.strip():
                values[name] = _READERS.get(name, _text)(name, text.strip())
        return cls(**values)

    def to_dict(self) -> dict[str, str]:
        """Return the given conditions as texts that `parse` reads."""
        texts = {name: getattr(self, name) for name in (field.name for field in fields(self))}
        texts["states"] = ",".join(self.states)
        return {
            name: value.isoformat() if isinstance(value, datetime) else str(value)
            for name, value in texts.items()
            if value
        }

    @property
    def is_empty(self) -> bool:
        """Whether it lets every job through."""
        return not self.to_dict()

    def among(self, *states: ListedState) -> tuple[ListedState, ...]:
        """Return those of these states that the filter lets through."""
        return tuple(state for state in states if not self.states or state in self.states)

    def before(self, moment: datetime) -> Self:
        """Return the filter restricted to jobs before `moment`."""
        return replace(self, until=moment if self.until is None else min(self.until, moment))


@dataclass(frozen=True)
class Cursor:
    """A place in a list: the sort value and the id of the last job seen."""

    value: datetime | float
    correlation_id: UUID

    def __str__(self) -> str:
        value = self.value.isoformat() if isinstance(self.value, datetime) else repr(self.value)
        return f"{value},{self.correlation_id}"

    @classmethod
    def parse(cls, text: str, sort: str = "time") -> Self:
        """Read what `str` wrote. Raises FilterInvalid."""
        value, _, job = text.partition(",")
        try:
            place = read_time("cursor", value) if sort == "time" else float(value)
            if isinstance(place, float) and not math.isfinite(place):
                raise ValueError
            return cls(place, UUID(job))
        except ValueError:
            raise FilterInvalid("cursor should be the end of a page in the same order; leave it out to begin") from None


def read_time(name: str, text: str) -> datetime:
    """Read an ISO 8601 time, in UTC where it has no zone. Raises FilterInvalid."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        shown = printable(text)[:60]
        raise FilterInvalid(f"{name} is {shown!r}; it should be a time such as 2026-01-31T18:00:00+00:00") from None


def _text(name: str, text: str) -> str:
    if "\x00" in text or text != printable(text):
        raise FilterInvalid(f"{name} should be text, without a NUL and without half a surrogate pair")
    if len(text) > 1_000:
        raise FilterInvalid(f"{name} has {len(text):,} characters; it should have at most 1,000")
    return text


def _one_of(name: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise FilterInvalid(f"{name} is {printable(text)[:60]!r}; {did_you_mean(printable(text), map(str, known))}")
    return text


def _states(name: str, text: str) -> tuple[ListedState, ...]:
    words = [word.strip().upper() for word in text.split(",") if word.strip()]
    return tuple(dict.fromkeys(ListedState(_one_of(name, word, tuple(ListedState))) for word in words))


def _id(name: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise FilterInvalid(f"{name} is {printable(text)[:60]!r}; it should be a UUID") from None


_READERS = {
    "states": _states,
    "operation": lambda name, text: _one_of(name, text, OPERATIONS),
    "error_type": lambda name, text: _one_of(name, text, tuple(ErrorType)),
    "correlation_id": _id,
    "since": read_time,
    "until": read_time,
}
