"""Monitor of a running import: reports its progress, and stops it soon after it was cancelled.

Reports are made in a thread of their own, because they may block for as long as Redis is down.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from pattern_storage.tasks.imports.run.progress import INTERVAL

T = TypeVar("T")

#: Seconds for which a finished run waits for the report that is being sent: the result should be stored after it.
LAST_REPORT = 5.0


class RunCancelled(Exception):
    """The run was cancelled and has rolled back."""


async def monitored(
    work: Awaitable[T],
    *,
    count: Callable[[], None],
    report: Callable[[], None] | None = None,
    is_cancelled: Callable[[], Awaitable[bool]] | None = None,
) -> T:
    """Await `work` under observation and return its result. Raises its errors, or RunCancelled.

    Args:
        work: the run.
        count: called every INTERVAL seconds, in the event loop.
        report: called as often, in a thread; its errors are suppressed.
        is_cancelled: called as often, in the event loop; must not raise.
    """
    running = asyncio.ensure_future(work)
    ended, cancelled = asyncio.Event(), asyncio.Event()

    async def watch() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await ended.wait()
            count()
            if is_cancelled and not ended.is_set() and await is_cancelled():
                cancelled.set()
                running.cancel()
                return

    watching = asyncio.create_task(watch(), name="import watch")
    stopped = threading.Event()
    # A daemon thread: the shutdown of a process does not wait for it.
    reporter = threading.Thread(target=_repeat, args=[report, stopped], name="import progress", daemon=True)
    if report:
        reporter.start()
    try:
        return await running
    except asyncio.CancelledError:
        if cancelled.is_set():
            raise RunCancelled from None
        raise
    finally:
        ended.set()
        await watching
        stopped.set()
        if report:
            await asyncio.to_thread(reporter.join, LAST_REPORT)


def _repeat(report: Callable[[], None], stopped: threading.Event) -> None:
    """Report every INTERVAL seconds until the event is set."""
    while not stopped.wait(INTERVAL):
        with suppress(Exception):  # the run goes on while Redis is down
            report()
