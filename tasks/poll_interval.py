"""Adaptive pause between two polls: short while there is work, longer while there is none."""

#: Seconds after a poll that found work; doubled after each poll that found none.
SHORTEST = 0.005

#: Largest share of the time for polls that find nothing: they get slow where long transactions keep dead rows in an
#: index.
SHARE = 0.1


class PollInterval:
    """An adaptive poll interval.

    Args:
        longest: seconds between two polls while there is nothing to do.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._interval = longest

    def after(self, *, found: int, took: float) -> float:
        """Return the seconds to wait after a poll that found `found` jobs and took `took` seconds."""
        self._interval = SHORTEST if found else self._interval * 2
        self._interval = min(self._interval, self._longest)
        # Only the time of polls that find nothing is limited.
        return self._interval if found else max(self._interval, took / SHARE)
