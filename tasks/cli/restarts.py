"""Restarts of what `up` has started and what has ended by itself: when, and how often in vain."""

import time

from pattern_storage.embedded import EmbeddedError
from pattern_storage.embedded.process import ServerProcess
from pattern_storage.embedded.server import EmbeddedServer
from pattern_storage.tasks.cli.output import err

#: Seconds between two starts of the same process.
RESTART_INTERVAL = 3.0
#: A process that ends within so many seconds of being started again was started in vain, and may be so often in a row.
VAIN_SECONDS, VAIN_STARTS = 30.0, 3


class Restarts:
    """Decides whether a process that has ended is started again, by its name."""

    def __init__(self) -> None:
        self._started_at: dict[str, float] = {}
        self._vain: dict[str, int] = {}

    def allow(self, name: str, ended: ServerProcess | EmbeddedServer) -> bool:
        """Return whether to start it now, and say so; if not, ask again later.

        Raises EmbeddedError, which shows the end of its log, for one that has ended soon after each of its last starts.
        """
        now = time.monotonic()
        lived = now - self._started_at.get(name, float("-inf"))
        if lived < RESTART_INTERVAL:
            return False
        vain = self._vain.get(name, 0) + 1 if lived < VAIN_SECONDS else 0
        if vain == VAIN_STARTS:
            raise EmbeddedError(
                f"{name} was started again {vain} times, and has ended within {VAIN_SECONDS:g} seconds each time;"
                f" the end of its log:\n{ended.log_tail}"
            )
        self._vain[name], self._started_at[name] = vain, now
        err.print(f"{name} has ended by itself and is started again")
        return True
