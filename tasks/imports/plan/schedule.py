"""Schedules and their due times: cron expressions in a time zone, and intervals.

cronsim computes cron's times. When clocks change, it does as Debian's cron: a time that the clock skips is due right
after the change, a time that occurs twice is due once, and `*` follows the local clock.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

#: The five fields of cron, and the number of values that each has.
_FIELDS = {"minute": 60, "hour": 24, "day of month": 31, "month": 12, "day of week": 7}

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

#: The longest interval, in days: no datetime has the due times of one that is much longer.
MAX_DAYS = 36_500


@dataclass(frozen=True)
class Every:
    """An interval such as "15m". Raises ValueError for any other text."""

    text: str

    def __post_init__(self) -> None:
        if not self.seconds:
            raise ValueError(f"every is {self.text!r}; it should be a number with s, m, h or d, such as '15m'")
        if self.seconds > MAX_DAYS * _UNITS["d"]:
            raise ValueError(f"every is {self.text!r}; it should be at most {MAX_DAYS}d")

    @property
    def seconds(self) -> int:
        """The interval, 0 for a text that is none."""
        interval = re.fullmatch(r"([1-9]\d{0,6})([smhd])", self.text)
        return int(interval[1]) * _UNITS[interval[2]] if interval else 0

    def after(self, moment: datetime) -> datetime:
        """Return the first due time after `moment`."""
        return self._at(moment.timestamp() // self.seconds + 1)

    def until(self, moment: datetime) -> datetime:
        """Return the last due time up to `moment`."""
        return self._at(moment.timestamp() // self.seconds)

    def _at(self, number: float) -> datetime:
        return datetime.fromtimestamp(number * self.seconds, UTC)


@dataclass(frozen=True)
class Cron:
    """Cron expression of five fields in a time zone. Raises ValueError for any other text."""

    text: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        rule = f"schedule is {self.text!r}; it should have five fields, such as '30 2 * * *'"
        if len(self.text.split()) != 5:
            raise ValueError(rule)
        try:
            following = self.after(datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f"{rule}: {str(error).lower()}") from None
        if following is None:
            raise ValueError(f"schedule is {self.text!r}, which is never")
        self._check_steps()

    def _check_steps(self) -> None:
        """Raise ValueError for a step that is larger than its field's range: for cron `*/90` is hourly."""
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
        """Return the first due time after `moment`, None if there is none in the next decades."""
        return next(self._times(moment), None)

    def until(self, moment: datetime) -> datetime | None:
        """Return the last due time up to `moment`, None if there was none in decades."""
        return next(self._times(moment.replace(microsecond=0) + timedelta(seconds=1), reverse=True), None)

    def _times(self, moment: datetime, *, reverse: bool = False) -> Iterator[datetime]:
        zone = ZoneInfo(self.timezone)
        for time in CronSim(self.text, moment.astimezone(zone), reverse=reverse):
            yield time.astimezone(UTC)


#: Has due times, timezone-aware and in whole seconds.
Schedule = Every | Cron
