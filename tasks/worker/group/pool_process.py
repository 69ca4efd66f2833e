"""Celery's prefork pool, whose calls are written at once, and whose processes are replaced after so many jobs.

billiard counts a group as one job.
"""

import sys
from collections.abc import Callable
from typing import Any

from billiard.pool import EX_RECYCLE
from celery import bootsteps
from celery.concurrency import asynpool, prefork

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


class Pool(asynpool.AsynPool):
    """Celery's prefork pool, whose calls are written at once where a process is free."""

    Worker = PoolProcess

    # Celery's, which its type stubs do not know.
    outbound_buffer: Any
    on_poll_start: Callable[[], None]
    _all_inqueues: set[int]
    _active_writes: set[int]
    _busy_workers: set[int]
    _quick_put: Callable[[Any], None]

    def _create_write_handlers(self, hub: Any, **options: Any) -> None:
        # Celery asks the kernel for each call whether a process can be written to, and in each turn of its event loop
        # not to be told.
        super()._create_write_handlers(hub, **options)  # type: ignore[misc]
        poll_writers, put, write = self.on_poll_start, self._quick_put, hub.consolidate_callback

        def on_poll_start() -> None:
            if self.outbound_buffer or hub.consolidate:
                poll_writers()

        def put_and_write(call: Any) -> None:
            put(call)
            free = self._all_inqueues - self._busy_workers - self._active_writes
            if free and len(self.outbound_buffer) == 1:
                # What the pipe does not take is written when it can be.
                write([min(free)])

        self.on_poll_start, self._quick_put = on_poll_start, put_and_write


class JobLimit(bootsteps.Step):
    """Has the prefork pool of a worker start such processes."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        prefork.TaskPool.Pool = Pool
