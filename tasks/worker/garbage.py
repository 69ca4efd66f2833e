"""Garbage collection of worker processes: what is there when a process begins to work is not looked through again.

That is all of the program, a few hundred thousand objects, which each full collection would walk in search of what
some jobs have left behind.
"""

import gc
from typing import Any

from celery import signals


@signals.worker_ready.connect
@signals.worker_process_init.connect
def freeze(**_: Any) -> None:
    """Have the collector leave out what is there now."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
