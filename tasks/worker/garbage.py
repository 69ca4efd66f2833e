"""Garbage collection of worker processes: objects that exist when a process begins to work are never collected.

They are the whole program, a few hundred thousand objects, and each full collection would walk them in search of the
garbage of a few jobs.
"""

import gc
from typing import Any

from celery import signals

#: New objects before the youngest generation is collected, and collections of each before the next older one. A job's
#: objects are freed without the collector; Python's default of 700 is a few messages.
THRESHOLDS = (50_000, 20, 100)


@signals.worker_ready.connect
@signals.worker_process_init.connect
def freeze(**_: Any) -> None:
    """Exclude all objects that exist now from collections."""
    gc.freeze()


@signals.worker_ready.connect
def collect_rarely(**_: Any) -> None:
    """Collect seldom in the main process of a worker; in pool processes it made no difference."""
    gc.set_threshold(*THRESHOLDS)
