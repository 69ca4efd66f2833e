"""A process of the prefork pool that is replaced after so many jobs: billiard counts a group as one."""

import sys
from collections.abc import Callable
from typing import Any

from billiard.pool import EX_RECYCLE
from celery import bootsteps
from celery.concurrency import asynpool

from pattern_storage.tasks.worker.group import child


class PoolProcess(asynpool.Worker):
    """Celery's process loop, with `--max-tasks-per-child` as a number of jobs."""

    # billiard's, which has no types.
    maxtasks: int | None
    wait_for_job: Callable[..., Any]

    def workloop(self, *args: Any, **options: Any) -> Any:
        """Execute what the main process sends, until the limit is reached."""
        limit, self.maxtasks = self.maxtasks, None
        if limit is not None:
            receive, calls = self.wait_for_job, 0

            def wait_for_job(*args: Any) -> Any:
                nonlocal calls
                if calls + child.extra_jobs >= limit:
                    # As billiard's loop ends itself; what it has answered is waited for on the way out.
                    sys.exit(EX_RECYCLE)
                received = receive(*args)
                calls += bool(received)
                return received

            self.wait_for_job = wait_for_job
        return super().workloop(*args, **options)


class JobLimit(bootsteps.Step):
    """Has the prefork pool of a worker start such processes."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        asynpool.AsynPool.Worker = PoolProcess
