"""Values that take long to find out, kept for a while: a page shows the last one and has the next found out."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from pattern_storage.tasks.reconnect import ReconnectBackoff

T = TypeVar("T")

#: Times as old as it may be, a value is no more shown.
STALE = 3


class Kept(Generic[T]):
    """One such value.

    Args:
        find: finds it out; if it raises, the last value stays.
        seconds: how long a value is good.
    """

    def __init__(self, find: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._find, self._seconds = find, seconds
        self._value: T | None = None
        self._found_at = float("-inf")
        #: When the last value was found out.
        self.found_at: datetime | None = None
        self._finding: asyncio.Task[None] | None = None
        # The page itself says which server does not answer; the log says it once.
        self._backoff = ReconnectBackoff(f"cannot find out {getattr(find, '__name__', 'figures').strip('_')}", "flower")

    def last(self) -> T | None:
        """Return the last value, None if there is none yet; where it is old, begin to find out the next.

        One that is very old, because nobody has looked for a while, is none: it would tell of another time.
        """
        if time.monotonic() - self._found_at > self._seconds * STALE:
            self._value = None
        if time.monotonic() - self._found_at > self._seconds and (self._finding is None or self._finding.done()):
            self._finding = asyncio.get_running_loop().create_task(self._renew(), name="renew a kept value")
        return self._value

    def forget(self) -> None:
        """Forget the value: something was done that it does not know of."""
        self._value, self._found_at = None, float("-inf")

    async def get(self, patience: float) -> T | None:
        """Return the last value; where there is none yet, wait at most `patience` seconds for the first."""
        if self.last() is None and self._finding is not None:
            await asyncio.wait([self._finding], timeout=patience)
        return self._value

    async def _renew(self) -> None:
        try:
            self._value = await self._find()
            self.found_at = datetime.now(UTC)
            self._backoff.succeeded()
        except Exception as error:
            self._backoff.failed(error)
        self._found_at = time.monotonic()
