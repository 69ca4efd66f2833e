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
    reports = ProgressReporter(report) if report else None
    try:
        return await running
    except asyncio.CancelledError:
        if cancelled.is_set():
            raise RunCancelled from None
        raise
    finally:
        ended.set()
        await watching
        if reports:
            await asyncio.to_thread(reports.end)


class ProgressReporter:
    """Thread that calls a function every INTERVAL seconds; shutdown does not wait for it."""

    def __init__(self, report: Callable[[], None]) -> None:
        self._report, self._ended = report, threading.Event()
        self._thread = threading.Thread(target=self._run, name="import progress", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop, and wait at most LAST_REPORT seconds for a report that is being sent."""
        self._ended.set()
        self._thread.join(LAST_REPORT)

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL):
            with suppress(Exception):  # the run goes on while Redis is down
                self._report()
