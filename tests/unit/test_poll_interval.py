"""How long a relay waits between two polls."""

import pytest

from pattern_storage.tasks.poll_interval import PollInterval


def test_it_looks_more_often_while_work_comes() -> None:
    interval = PollInterval(0.1)
    idle = [interval.after(found=0, took=0.001) for _ in range(3)]
    assert idle == [0.1] * 3
    busy = [interval.after(found=5, took=0.001) for _ in range(3)]
    assert busy == [0.005] * 3
    assert [interval.after(found=0, took=0.0001) for _ in range(6)] == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1]


def test_a_slow_poll_is_made_less_often() -> None:
    """A tenth of the time at most; work is never held up by what the look at it took."""
    interval = PollInterval(0.1)
    assert interval.after(found=0, took=0.5) == pytest.approx(5.0)
    assert interval.after(found=1, took=0.5) == 0.005


def test_an_interval_shorter_than_the_shortest_is_kept() -> None:
    assert PollInterval(0.001).after(found=1, took=0) == 0.001
