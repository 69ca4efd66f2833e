"""When imports are due: cron in a time zone, also when its clocks change, and intervals."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from pattern_storage.tasks.imports.plan.schedule import Cron, Every, Schedule

BERLIN = ZoneInfo("Europe/Berlin")
#: The clocks go from 2 to 3 o'clock on 29 March, and from 3 back to 2 on 25 October.
SPRING = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)


def times(schedule: Schedule, moment: datetime, count: int) -> list[datetime]:
    found: list[datetime] = []
    for _ in range(count):
        following = schedule.after(found[-1] if found else moment)
        assert following is not None
        found.append(following)
    return found


def local(schedule: Schedule, moment: datetime, count: int) -> list[str]:
    return [f"{time.astimezone(BERLIN):%d %H:%M%z}" for time in times(schedule, moment, count)]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("*/90 * * * *", "a step of 90 is more than * of the field minute has"),
        ("*/60 * * * *", "minute"),
        ("0 */24 * * *", "hour"),
        ("0-10/30 * * * *", "a step of 30 is more than 0-10 of the field minute has"),
        ("0 0 */31 * *", "day of month"),
        ("0 0 1 */12 *", "month"),
        ("0 0 * * */7", "day of week"),
        ("5,*/70 * * * *", "minute"),
    ],
)
def test_a_step_that_would_mean_something_else(text: str, field: str) -> None:
    with pytest.raises(ValueError, match="use every for an interval") as caught:
        Cron(text)
    assert field in str(caught.value)


@pytest.mark.parametrize("text", ["*/59 * * * *", "0 */12 * * *", "0-30/10 * * * *", "0 0 */2 * *", "0 0 1 */6 *"])
def test_a_step_within_its_field(text: str) -> None:
    assert times(Cron(text), datetime(2026, 1, 1, tzinfo=UTC), 3)


def test_cron_in_utc() -> None:
    found = times(Cron("30 2 * * *"), datetime(2026, 1, 1, 2, 30, tzinfo=UTC), 2)
    assert found == [datetime(2026, 1, 2, 2, 30, tzinfo=UTC), datetime(2026, 1, 3, 2, 30, tzinfo=UTC)]


def test_a_time_that_the_clock_jumps_over_comes_right_after_the_jump() -> None:
    assert local(Cron("30 2 * * *", "Europe/Berlin"), SPRING, 2) == ["29 03:00+0200", "30 02:30+0200"]


def test_a_time_that_comes_twice_is_due_once() -> None:
    assert local(Cron("30 2 * * *", "Europe/Berlin"), AUTUMN, 2) == ["25 02:30+0200", "26 02:30+0100"]


def test_an_hourly_time_follows_the_clock_that_runs() -> None:
    hourly = Cron("0 * * * *", "Europe/Berlin")
    assert local(hourly, AUTUMN, 4) == ["25 01:00+0200", "25 02:00+0200", "25 02:00+0100", "25 03:00+0100"]
    assert local(hourly, SPRING, 3) == ["29 01:00+0100", "29 03:00+0200", "29 04:00+0200"]


@pytest.mark.parametrize(
    "schedule",
    [
        Cron("30 2 * * *", "Europe/Berlin"),
        Cron("*/20 * * * *", "America/New_York"),
        Cron("0 0 1 * MON"),
        Cron("15 3 29 2 *"),
        Every("15m"),
        Every("7s"),
        Every("36h"),
    ],
)
@pytest.mark.parametrize("moment", [SPRING, AUTUMN, datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)])
def test_what_is_due_last_is_what_was_due_next(schedule: Schedule, moment: datetime) -> None:
    found = times(schedule, moment, 8)
    assert found == sorted(set(found))
    for earlier, later in pairwise(found):
        assert schedule.until(later) == later
        assert schedule.until(later - timedelta(microseconds=1)) == earlier
        assert schedule.until(later + timedelta(microseconds=1)) == later


def test_intervals_count_from_the_same_moment_everywhere() -> None:
    moment = datetime(2026, 5, 4, 10, 7, 31, tzinfo=UTC)
    assert Every("15m").after(moment) == datetime(2026, 5, 4, 10, 15, tzinfo=UTC)
    assert Every("15m").until(moment) == datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
    assert Every("1d").after(moment) == datetime(2026, 5, 5, tzinfo=UTC)
    assert Every("1d").until(moment.astimezone(BERLIN)) == datetime(2026, 5, 4, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "m", "15", "-1m", "1.5h", "1w", "0s", "12345678s"])
def test_no_interval(text: str) -> None:
    with pytest.raises(ValueError, match="it should be a number with s, m, h or d"):
        Every(text)


def test_an_interval_has_a_next_time() -> None:
    assert Every("36500d").after(SPRING).year == 2069
    with pytest.raises(ValueError, match="every is '9999999d'; it should be at most 36500d"):
        Every("9999999d")


@pytest.mark.parametrize("text", ["", "@daily", "* * * *", "* * * * * *", "x * * * *", "0 24 * * *", "0 0 30 2 *"])
def test_no_cron(text: str) -> None:
    with pytest.raises(ValueError, match="schedule is"):
        Cron(text)
