"""Replacement of pool processes that have done their share (`--max-tasks-per-child`)."""

from typing import Any

from celery import bootsteps
from celery.worker.components import Pool

#: Seconds. Celery's event loop checks every five seconds; it learns no sooner of a process that ended as expected, and
#: with one job a process every job would wait for that.
CHECK_INTERVAL = 0.1


class Replacement(bootsteps.StartStopStep):
    """Worker bootstep that checks often whether a process has ended, where processes are to end after some jobs."""

    requires = (Pool,)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Check from now on, for each connection to the broker anew: Celery cancels its timers with the connection."""
        # A pool of threads, which are not replaced, has no such object.
        processes = worker.pool._pool
        if processes is not None and (worker.max_tasks_per_child or worker.max_memory_per_child):
            hub.call_repeatedly(CHECK_INTERVAL, processes.maintain_pool)
