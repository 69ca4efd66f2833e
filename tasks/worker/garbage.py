"""Garbage collection of worker processes: what is there when a process begins to work is not looked through again.

That is all of the program, a few hundred thousand objects, which each full collection would walk in search of what
some jobs have left behind.
"""

import gc
from typing import Any

from celery import signals

#: Objects that are new before the youngest are looked through, and how often that happens before older ones are. What
#: a job leaves behind goes without the collector; Python's 700 are a few messages.
THRESHOLDS = (50_000, 20, 100)


@signals.worker_ready.connect
@signals.worker_process_init.connect
def freeze(**_: Any) -> None:
    """Have the collector leave out what is there now."""
    gc.freeze()


@signals.worker_ready.connect
def collect_rarely(**_: Any) -> None:
    """Have the collector of a worker's main process look seldom; in pool processes it made no difference."""
    gc.set_threshold(*THRESHOLDS)
