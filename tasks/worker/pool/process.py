"""A process of the pool: its loop, with claims of its own, and its replacement after so many jobs.

billiard counts only calls, and only those that come through its pipe.
"""

import os
import sys
from collections.abc import Callable
from math import inf
from typing import Any

from billiard.pool import EX_RECYCLE
from billiard.process import current_process
from celery.concurrency import asynpool

from pattern_storage.tasks.worker.group import child
from pattern_storage.tasks.worker.pool.permit import Permit
from pattern_storage.tasks.worker.pool.pool_claims import PoolClaims

#: Kind of the messages to the main process about jobs that a process has claimed itself.
CLAIMED = "claimed"


class PoolProcess(asynpool.Worker):
    """Celery's process loop, with `--max-tasks-per-child` as a number of jobs: billiard counts a group as one."""

    # billiard's, which has no types.
    maxtasks: int | None
    wait_for_job: Callable[..., Any]
    inq: Any
    outq: Any
    _shutdown: Any
    #: Of the pool and its worker, set before a process is forked. One that is spawned has none, and claims nothing.
    permit: Permit | None = None
    hostname: str

    def workloop(self, *args: Any, **options: Any) -> Any:
        """Execute the calls of the main process until the limit is reached."""
        limit, self.maxtasks = inf if self.maxtasks is None else self.maxtasks, None
        receive, begun = self.wait_for_job, 0
        # One process is enough: while it has a job, the main process takes the next.
        claims = None
        if self.permit is not None and getattr(current_process(), "index", None) == 0:
            claims = PoolClaims(self.permit, self.inq._reader.fileno(), self._report, self.hostname, self._is_stopped)

        def wait_for_job(*args: Any) -> Any:
            nonlocal begun
            if claims is not None:
                begun += claims.execute(limit - begun)
            if begun >= limit:
                # billiard's loop ends in the same way; on the way out it waits until its answers have been read.
                sys.exit(EX_RECYCLE)
            if received := receive(*args):
                _, (_, _, function, arguments, _) = received
                begun += len(arguments[0]) if function is child.run_group else 1
            return received

        self.wait_for_job = wait_for_job
        return super().workloop(*args, **options)

    def _is_stopped(self) -> bool:
        # billiard's sentinel, where a pool may be restarted.
        return self._shutdown is not None and self._shutdown.is_set()

    def _report(self, kind: str, *values: Any) -> None:
        self.outq.put((CLAIMED, (kind, os.getpid(), *values)))
