"""While a run goes on: tells how far it is, and ends it soon after somebody has cancelled it.

The two know nothing of each other: telling may wait for Redis for as long as that is away.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from pattern_storage.tasks.imports.run.progress import INTERVAL

T = TypeVar("T")

#: Seconds that a run which has ended waits for the report that is being told: the result should come after it.
LAST_REPORT = 5.0


class CancelledMeanwhile(Exception):
    """Somebody has cancelled the run; all it did has rolled back."""


async def watched(
    work: Awaitable[T],
    *,
    count: Callable[[], None],
    report: Callable[[], None] | None = None,
    is_cancelled: Callable[[], Awaitable[bool]] | None = None,
) -> T:
    """Return what the work returns. Raises what it raises, or CancelledMeanwhile.

    Args:
        work: the run.
        count: called every INTERVAL seconds, in the event loop.
        report: called as often, in a thread of its own; what it raises is no concern of the run.
        is_cancelled: asked as often. It does not raise.
    """
    running = asyncio.ensure_future(work)
    ended, cancelled = asyncio.Event(), asyncio.Event()

    async def look() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await ended.wait()
            count()
            if is_cancelled and not ended.is_set() and await is_cancelled():
                cancelled.set()
                running.cancel()
                return

    looking = asyncio.create_task(look(), name="import watch")
    reports = Reports(report) if report else None
    try:
        return await running
    except asyncio.CancelledError:
        if cancelled.is_set():
            raise CancelledMeanwhile from None
        raise
    finally:
        ended.set()
        await looking
        if reports:
            await asyncio.to_thread(reports.end)


class Reports:
    """Calls a function every INTERVAL seconds until the end, in a thread that nobody has to wait for."""

    def __init__(self, report: Callable[[], None]) -> None:
        self._report, self._ended = report, threading.Event()
        self._thread = threading.Thread(target=self._run, name="import progress", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait for the last report, but not for ever."""
        self._ended.set()
        self._thread.join(LAST_REPORT)

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL):
            # Redis may be away for a moment: the run goes on.
            with suppress(Exception):
                self._report()
