"""Replacement of pool processes that have done their share (`--max-tasks-per-child`)."""

from typing import Any

from celery import bootsteps
from celery.worker.components import Pool

#: Seconds. Celery's event loop looks every five; the end of a process that was expected reaches it no sooner, and with
#: one job a process every job would wait for that.
LOOK_INTERVAL = 0.1


class Replacement(bootsteps.StartStopStep):
    """Bootstep of a worker that looks often whether a process has ended, where processes are to end."""

    requires = (Pool,)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Look from now on, for each connection to the broker anew: Celery ends its timers with it."""
        # Threads are not replaced; of their pool Celery has no such object.
        processes = worker.pool._pool
        if processes is not None and (worker.max_tasks_per_child or worker.max_memory_per_child):
            hub.call_repeatedly(LOOK_INTERVAL, processes.maintain_pool)
