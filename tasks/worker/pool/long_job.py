"""A job of a pool process that takes long: it is treated as any other, with its time limits and as STARTED.

The process claims jobs which the main process need not know of, since they end at once. Nobody could end, show or wait
for one that does not.
"""

import os
import signal
from time import monotonic
from typing import Any

from billiard.pool import SIG_SOFT_TIMEOUT

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.worker.group.call import GroupCall

logger = get_logger(__name__)


class LongJob:
    """The job that a pool process has claimed itself and takes long for, if there is one."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        #: The call that Celery can end, which has begun with the job; None without one.
        self.call: GroupCall | None = None
        #: The message as it was claimed; empty without one.
        self.message = b""
        self._limits: list[Any] = []

    def begin(self, call: GroupCall, message: bytes, pid: int, began: float) -> None:
        """Show the job as STARTED and set its time limits, which count from its beginning (`time.monotonic`)."""
        self.call, self.message = call, message
        call.mark_started()
        soft, hard = call.limits
        for seconds, number in ((soft, SIG_SOFT_TIMEOUT), (hard, signal.SIGKILL)):
            if seconds:
                self._limits.append(self._consumer.hub.call_later(began + seconds - monotonic(), _send, pid, number))

    def end(self) -> GroupCall | None:
        """Note that the job has ended, and return its call."""
        call, self.call, self.message = self.call, None, b""
        while self._limits:
            self._limits.pop().cancel()
        return call


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        logger.debug("process %d has ended", pid)
