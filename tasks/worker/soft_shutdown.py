"""The end of a worker: whether it has begun, and what is done around Celery's soft shutdown."""

from collections.abc import Callable
from typing import Any

from celery.worker import state


def is_ending() -> bool:
    """Whether the worker ends, warm or cold. Celery notes its exit code, which may be 0."""
    return any(code is not None and code is not False for code in (state.should_stop, state.should_terminate))


def surround(controller: Any, before: Callable[[], None], after: Callable[[], None] = lambda: None) -> None:
    """Call these before and after a worker sleeps in its soft shutdown, also if it need not sleep.

    It sleeps in a signal handler. The event loop stands still meanwhile, and Celery's own signal comes after that.
    """
    wait = controller.wait_for_soft_shutdown

    def wait_between() -> None:
        before()
        wait()
        after()

    controller.wait_for_soft_shutdown = wait_between
