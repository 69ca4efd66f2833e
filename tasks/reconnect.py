"""Backoff of a service that never gives up while a server is down, and its two log lines about that."""

import random

from pattern_storage.storage.errors import InternalError
from pattern_storage.storage.logs import get_logger

logger = get_logger(__name__)

#: Seconds between two attempts to reach a server that is down: the first, doubled up to the last.
FIRST_DELAY, LAST_DELAY = 0.1, 5.0


class ReconnectBackoff:
    """Exponential backoff with jitter; logs the first failure and the recovery, and nothing between them.

    Args:
        problem: the first words of the failure in the log: "cannot publish".
        service: name of the service, with which the log line begins.
    """

    def __init__(self, problem: str, service: str = "relay") -> None:
        self._problem, self._service = problem, service
        self._attempts = 0

    def failed(self, error: Exception) -> float:
        """Note a failed attempt; return the seconds to wait before the next one."""
        if not self._attempts:
            # An InternalError is a bug of ours: only then a traceback helps.
            sentence = " ".join(str(error).split())  # libpq's have several lines
            traceback = isinstance(error, InternalError)
            logger.warning("%s: %s: %s", self._service, self._problem, sentence, exc_info=traceback)
        self._attempts += 1
        delay = min(FIRST_DELAY * 2.0 ** min(self._attempts - 1, 30), LAST_DELAY)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311

    def succeeded(self) -> None:
        """Note an attempt that worked: the next failure starts at the first delay and is logged again."""
        if self._attempts:
            logger.info("%s: recovered (%s) after %d tries", self._service, self._problem, self._attempts)
            self._attempts = 0
