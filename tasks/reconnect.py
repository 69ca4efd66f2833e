"""How a service that goes on for ever speaks of a server that is down, and when it tries again."""

import random

from pattern_storage.storage.errors import InternalError
from pattern_storage.storage.logs import get_logger

logger = get_logger(__name__)

#: Seconds between two tries to reach a server that is down: the first, doubled up to the last.
FIRST_RETRY, LAST_RETRY = 0.1, 5.0


class Trouble:
    """A server that is down: says so once, says once that it is back, and knows when to try again."""

    def __init__(self, what: str, who: str = "relay") -> None:
        self._what, self._who = what, who
        self._tries = 0

    def next_try(self, error: Exception) -> float:
        """Return the seconds to wait before the next try."""
        if not self._tries:
            # What nobody foresaw is a bug of ours: only then a traceback helps.
            sentence = " ".join(str(error).split())  # libpq's have several lines
            logger.warning("%s: %s: %s", self._who, self._what, sentence, exc_info=isinstance(error, InternalError))
        self._tries += 1
        return min(FIRST_RETRY * 2.0 ** min(self._tries - 1, 30), LAST_RETRY) * random.uniform(0.5, 1.0)  # noqa: S311

    def is_over(self) -> None:
        """Forget the trouble, if there was any."""
        if self._tries:
            logger.info("%s: recovered (%s) after %d tries", self._who, self._what, self._tries)
            self._tries = 0
