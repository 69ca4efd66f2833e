"""The pause between two polls: short while work comes, longer while none does, and never most of a server's time."""

#: Seconds after a poll that found work; doubled after each that found none, up to the longest.
SHORTEST = 0.005

#: A poll may take at most this part of the time: where long transactions keep dead rows in an index, it gets slow.
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
        """Return the seconds to wait after a poll that found so many jobs and took so many seconds."""
        self._interval = SHORTEST if found else self._interval * 2
        self._interval = min(self._interval, self._longest)
        # What was found was worth its time; looking in vain is what is bounded.
        return self._interval if found else max(self._interval, took / SHARE)
