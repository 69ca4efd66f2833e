"""Schedules and their due times: cron expressions in a time zone, and intervals.

cronsim computes cron's times. It does at the change of clocks what Debian's cron does: a time that the clock jumps
over comes right after the jump, a time that comes twice is due once, and `*` follows the clock that runs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

#: The five fields of cron, and how many values each has.
_FIELDS = {"minute": 60, "hour": 24, "day of month": 31, "month": 12, "day of week": 7}

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Schedule(Protocol):
    """A sequence of due times, timezone-aware and in whole seconds."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first due time later than `moment`, None if there is none in the next decades."""
        ...

    def until(self, moment: datetime) -> datetime | None:
        """Return the last due time that is not later than `moment`."""
        ...


@dataclass(frozen=True)
class Every:
    """An interval such as "15m". Raises ValueError if it is none."""

    text: str

    def __post_init__(self) -> None:
        if not self.seconds:
            raise ValueError(f"every is {self.text!r}; it should be a number with s, m, h or d, such as '15m'")

    @property
    def seconds(self) -> int:
        """The interval, 0 if it cannot be read."""
        found = re.fullmatch(r"([1-9]\d{0,6})([smhd])", self.text)
        return int(found[1]) * _UNITS[found[2]] if found else 0

    def after(self, moment: datetime) -> datetime:
        """See `Schedule.after`."""
        return self._at(moment.timestamp() // self.seconds + 1)

    def until(self, moment: datetime) -> datetime:
        """See `Schedule.until`."""
        return self._at(moment.timestamp() // self.seconds)

    def _at(self, number: float) -> datetime:
        return datetime.fromtimestamp(number * self.seconds, UTC)


@dataclass(frozen=True)
class Cron:
    """Minute, hour, day of month, month, day of week, in a time zone. Raises ValueError if they are none."""

    text: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        rule = f"schedule is {self.text!r}; it should have five fields, such as '30 2 * * *'"
        if len(self.text.split()) != 5:
            raise ValueError(rule)
        try:
            found = self.after(datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f"{rule}: {str(error).lower()}") from None
        if found is None:
            raise ValueError(f"schedule is {self.text!r}, which is never")
        self._check_steps()

    def _check_steps(self) -> None:
        """Raise ValueError for a step that leaves its field's range at once: cron would take `*/90` for hourly."""
        for name, values, field in zip(_FIELDS, _FIELDS.values(), self.text.split(), strict=True):
            for part in field.split(","):
                span, _, step = part.partition("/")
                first, _, last = span.partition("-")
                size = int(last) - int(first) + 1 if first.isdigit() and last.isdigit() else values
                if step.isdigit() and int(step) >= max(size, 2):
                    raise ValueError(
                        f"schedule is {self.text!r}: a step of {step} is more than {span} of the field {name} has; "
                        "use every for an interval, such as every = '90m'"
                    )

    def after(self, moment: datetime) -> datetime | None:
        """See `Schedule.after`."""
        return next(self._times(moment), None)

    def until(self, moment: datetime) -> datetime | None:
        """See `Schedule.until`."""
        return next(self._times(moment.replace(microsecond=0) + timedelta(seconds=1), reverse=True), None)

    def _times(self, moment: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        zone = ZoneInfo(self.timezone)
        for found in CronSim(self.text, moment.astimezone(zone), reverse=reverse):
            yield found.astimezone(UTC)
