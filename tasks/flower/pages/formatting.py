"""Formatting of values for a page: numbers, sizes, times, durations, and texts of unknown origin."""

from datetime import UTC, datetime
from typing import Any

from pattern_storage.tasks.cli.output import plural as plural  # the pages' too
from pattern_storage.vocabulary import ErrorType

#: Text of a cell without a value.
NOTHING = "—"

#: Characters of a text in a list at most.
SHORT = 300

#: Ids that are shown where there are more.
FEW = 3

SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"))
SIZES = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))


def number(value: float | None) -> str:
    """Return a number such as `1,234`."""
    return NOTHING if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Return a rate such as `1,234/s`, or `0.25/s` if it is small."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}/s" if value >= 10 or value == 0 else f"{value:.2g}/s"


def percent(part: float | None) -> str:
    """Return a part such as 0.24 as `24 %`."""
    return NOTHING if part is None else f"{100 * part:.0f} %"


def score(value: float | None) -> str:
    """Return a score from 0 to 1 with two digits: `0.75`."""
    return NOTHING if value is None else f"{value:.2f}"


def size(value: float | None) -> str:
    """Return a number of bytes as a text such as `1.2 MB`."""
    if value is None:
        return NOTHING
    for least, unit in SIZES:
        if value >= least:
            return f"{value / least:.1f} {unit}"
    return f"{value:.0f} B"


def seconds(value: float | None) -> str:
    """Return a duration as a text such as `1 h 03 min`, `2.5 s` or `8 ms`."""
    if value is None:
        return NOTHING
    value = max(value, 0.0)
    if value < 1:
        return f"{1_000 * value:.0f} ms"
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    if value < 3_600:
        return f"{value // 60:.0f} min {value % 60:02.0f} s" if value < 600 else f"{value // 60:.0f} min"
    if value < 86_400:
        return f"{value // 3_600:.0f} h {value % 3_600 // 60:02.0f} min"
    return f"{value // 86_400:.0f} d {value % 86_400 // 3_600:.0f} h"


def milliseconds(value: float | None) -> str:
    """Return a duration in milliseconds as `seconds` does."""
    return NOTHING if value is None else seconds(value / 1_000)


def age(moment: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a moment is, as `seconds` does."""
    return NOTHING if moment is None else seconds(((now or datetime.now(UTC)) - moment).total_seconds())


def time(moment: datetime | None) -> str:
    """Return a time in UTC, to the second."""
    return NOTHING if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def text(value: Any, limit: int = SHORT) -> str:
    """Return a text of unknown origin in one line: unprintable characters are escaped, a long text is cut.

    The result is not HTML: templates escape it, as they escape everything.
    """
    if value is None or value == "":
        return NOTHING
    whole = str(value)
    line = "".join(_printable(character) for character in whole[: limit + 1])
    return f"{line[:limit]}…" if len(whole) > limit else line


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else repr(character)[1:-1]


def subject(values: dict[str, Any]) -> str:
    """Return the subject of an entry of the audit as names and values, with the first few of many ids."""
    return "; ".join(f"{name} {_listed(value)}" for name, value in values.items())


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{old} → {new}" for old, new in value.items()]
    if not isinstance(value, list):
        return str(value)
    more = f" and {len(value) - FEW:,} more" if len(value) > FEW else ""
    return ", ".join(map(str, value[:FEW])) + more


def badge(state: Any) -> str:
    """Return the CSS class of a state's colour, whatever its case."""
    return f"state-{str(state).lower().replace('_', '-')}" if str(state).replace("_", "").isalpha() else "state-none"


#: Suggestions of the filter by error.
ERROR_TYPES = tuple(map(str, ErrorType))
