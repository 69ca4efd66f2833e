"""Cache of one value that takes long to compute: a page shows the last value while the next one is computed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from pattern_storage.tasks.reconnect import ReconnectBackoff

T = TypeVar("T")

#: A value older than so many times its lifetime is not shown any more.
STALE = 3


class CachedValue(Generic[T]):
    """A value that is computed in the background when a page asks for it and the last one is old.

    Args:
        compute: returns the value; while it raises, the last value stays.
        name: what is computed, for the log.
        seconds: how long a value is fresh.
    """

    def __init__(self, compute: Callable[[], Awaitable[T]], name: str, seconds: float) -> None:
        self._compute, self._seconds = compute, seconds
        self._value: T | None = None
        self._tried_at = float("-inf")
        #: When the value was computed.
        self.computed_at: datetime | None = None
        self._task: asyncio.Task[None] | None = None
        # The page itself says which server does not answer; the log says it once.
        self._backoff = ReconnectBackoff(f"cannot find out {name}", "flower")

    def last(self) -> T | None:
        """Return the last value and, if it is old, begin to compute the next.

        Returns None if there is no value yet, or if nobody has looked for so long that the value is stale.
        """
        age = time.monotonic() - self._tried_at
        if age > self._seconds * STALE:
            self._value = None
        if age > self._seconds and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._renew(), name="renew a cached value")
        return self._value

    def invalidate(self) -> None:
        """Forget the value, also one that is being computed: an action has just changed what it describes."""
        self._value, self._tried_at = None, float("-inf")
        if self._task is not None:
            self._task.cancel()

    async def get(self, patience: float) -> T | None:
        """Return the last value; if there is none yet, wait for the first, `patience` seconds at most."""
        if self.last() is None and self._task is not None:
            await asyncio.wait([self._task], timeout=patience)
        return self._value

    async def _renew(self) -> None:
        try:
            self._value = await self._compute()
            self.computed_at = datetime.now(UTC)
            self._backoff.succeeded()
        except Exception as error:
            self._backoff.failed(error)
        self._tried_at = time.monotonic()
