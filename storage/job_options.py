"""Options of one job: its priority, when it may begin and until when, and its queue.

They are no part of the contract: the same request is the same with other options. A message carries them in its
headers, a row of the outbox in a column.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self, cast

from typing_extensions import TypedDict

from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.explanation import did_you_mean, printable
from pattern_storage.vocabulary import Priority

#: Seconds until a job begins, or expires, at most: a hundred years, which every clock and header can carry.
MAX_SECONDS = 100 * 365 * 86_400
QUEUE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class SubmitOptions(TypedDict, total=False):
    """Options of `submit`, `insert` and the like. One that is left out, or None, is the client's default.

    Attributes:
        priority: "urgent" goes before everything that waits (of several, the last one first), "normal" in the order of
            submission, "low" and "lowest" only when nothing of the ones before waits.
        delay: seconds, or a timedelta, until the job may begin; `eta`: the moment itself, with a time zone.
        expires: seconds, a timedelta or a moment, from which on the job does not begin any more; then it fails with
            `expired`, and nothing is written.
        queue: where it waits, `storage` or `batch` by default; some worker has to take jobs from there.
    """

    priority: Priority | Literal["urgent", "normal", "low", "lowest"] | None
    delay: float | timedelta | None
    eta: datetime | None
    expires: float | timedelta | datetime | None
    queue: str | None


OPTION_NAMES = tuple(SubmitOptions.__annotations__)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Checked options, with moments in place of seconds from now."""

    priority: Priority = Priority.NORMAL
    eta: datetime | None = None
    expires: datetime | None = None
    queue: str | None = None

    @classmethod
    def of(cls, given: SubmitOptions, now: datetime | None = None) -> Self:
        """Return these options, checked. Raises ContractInvalid with one sentence that names the option."""
        named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if not named:
            return cast("Self", NO_OPTIONS)
        for name in named:
            if name not in OPTION_NAMES:
                raise ContractInvalid(f"unknown option {printable(name)!r}; {did_you_mean(name, OPTION_NAMES)}")
        if "delay" in named and "eta" in named:
            raise ContractInvalid("delay and eta both say when the job may begin; give one of them")
        now = now or datetime.now(UTC)
        eta = _delay(named["delay"], now) if "delay" in named else _moment("eta", named.get("eta"))
        expires = _expires(named.get("expires"), now)
        if expires is not None and expires <= (eta or now):
            raise ContractInvalid(
                "expires should be later than the moment at which the job may begin"
                if eta
                else f"expires should be in the future, got {expires.isoformat()}"
            )
        return cls(_priority(named.get("priority")), eta, expires, _queue(named.get("queue")))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Self:
        """Return the options of a row of the outbox; an application may have written it. Raises ContractInvalid."""
        if stored is None:
            return cast("Self", NO_OPTIONS)
        if not isinstance(stored, Mapping):
            raise ContractInvalid(f"options should be a JSON object, got {type(stored).__name__}")
        fields = dict(stored)
        for name in fields:
            if name not in ("priority", "expires", "queue"):
                raise ContractInvalid(f"unknown option {printable(name)!r} in the outbox")
        expires = fields.get("expires")
        if isinstance(expires, str):
            try:
                expires = datetime.fromisoformat(expires)
            except ValueError:
                raise ContractInvalid(f"expires should be a moment in ISO 8601, got {expires!r}") from None
        return cls(_priority(fields.get("priority")), None, _moment("expires", expires), _queue(fields.get("queue")))

    def to_json(self) -> dict[str, str] | None:
        """Return the options that the outbox keeps beside the due time; None if there are none."""
        kept = {
            "priority": None if self.priority is Priority.NORMAL else str(self.priority),
            "expires": None if self.expires is None else self.expires.isoformat(),
            "queue": self.queue,
        }
        return {name: value for name, value in kept.items() if value is not None} or None

    def without_eta(self) -> "JobOptions":
        """Return these options for a job that may begin now."""
        return self if self.eta is None else replace(self, eta=None)


#: Options of most jobs.
NO_OPTIONS = JobOptions()


def _priority(value: Any) -> Priority:
    if value is None:
        return Priority.NORMAL
    try:
        return Priority(value)
    except ValueError:
        known = ", ".join(map(repr, map(str, Priority)))
        raise ContractInvalid(f"priority should be one of {known}, got {printable(value)!r}") from None


def _delay(value: Any, now: datetime) -> datetime | None:
    seconds = _seconds("delay", value)
    return now + timedelta(seconds=seconds) if seconds else None


def _expires(value: Any, now: datetime) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return _moment("expires", value)
    return now + timedelta(seconds=_seconds("expires", value))


def _seconds(name: str, value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    # A comparison with itself, since math.isnan refuses an int that no float can hold.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds:
        moment = ", a timedelta or a datetime" if name == "expires" else " or a timedelta"
        raise ContractInvalid(f"{name} should be seconds{moment}, got {type(value).__name__}")
    if not 0 <= seconds <= MAX_SECONDS:
        raise ContractInvalid(f"{name} should be 0 to {MAX_SECONDS:,} seconds, got {printable(seconds)[:60]}")
    return float(seconds)


def _moment(name: str, value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise ContractInvalid(f"{name} should be a datetime, got {type(value).__name__}")
    if value.utcoffset() is None:
        raise ContractInvalid(f"{name} should have a time zone, got {value.isoformat()}")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ContractInvalid(f"{name} should be in the years 1 to 9999 in UTC, got {value.isoformat()}") from None


def _queue(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and QUEUE_NAME.fullmatch(value)):
        raise ContractInvalid(f"queue should be a name of letters, digits and _.-, got {printable(value)!r}")
    return value
