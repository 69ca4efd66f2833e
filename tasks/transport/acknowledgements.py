"""Acknowledgements of a channel: each goes along with a claim, and waits a few milliseconds for one if none is due."""

import threading
from collections import deque
from time import monotonic
from typing import Any

#: Seconds that acknowledgements wait for a claim that takes them along. If the worker dies meanwhile the jobs are
#: delivered again, and replay their results.
ACK_DELAY = 0.005
#: Seconds since the last iteration of an event loop that is taken to be alive: it soon sends a claim again.
LOOP_ALIVE = 0.05
#: Acknowledgements in one claim at most: Lua takes some 8,000 arguments at a time.
MAX_ACKS = 1_000


class Acknowledgements:
    """Delivery tags that one channel has to acknowledge, and the time when that is due.

    A tag is kept until the reply to the claim that takes it along: sending it twice does no harm.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        # Other threads append to it.
        self._tags: deque[str] = deque()
        self._sent: list[str] = []
        self._thread, self._iteration_began = 0, 0.0
        #: When they are sent by themselves, in seconds of the monotonic clock; None if none wait.
        self.due_at: float | None = None

    @property
    def are_unconfirmed(self) -> bool:
        """Whether acknowledgements are not sent, or not confirmed."""
        return bool(self._tags or self._sent)

    def begin_iteration(self) -> None:
        """Note that an iteration of the event loop begins, in this thread."""
        self._thread, self._iteration_began = threading.get_ident(), monotonic()

    def are_due(self) -> bool:
        """Whether acknowledgements have waited long enough."""
        if not self.are_unconfirmed:
            return False
        if not self._channel.is_ahead:
            return True
        if self.due_at is None:
            self.due_at = self._iteration_began + ACK_DELAY
            # Has the event loop begin another iteration by then, in which this is asked again.
            self._channel.connection.cycle.hub.call_later(ACK_DELAY, lambda: None)
        return self._iteration_began >= self.due_at

    def collect(self, tag: str) -> bool:
        """Keep an acknowledgement for the next claim, if that is milliseconds away. Returns whether it is.

        In the thread of the event loop it always is, because the next iteration begins when this one has ended. A busy
        machine, where iterations are long, would otherwise send each alone and become busier still.
        """
        if self._channel.closing or not self._channel.is_ahead:
            return False
        if threading.get_ident() != self._thread and monotonic() - self._iteration_began > LOOP_ALIVE:
            return False
        self._tags.append(tag)
        return True

    def keep(self, tag: str) -> None:
        """Keep an acknowledgement for the next claim, however late that is."""
        self._tags.append(tag)

    def wake(self) -> None:
        """Wake the event loop from another thread: a pool of threads acknowledges in its own threads."""
        if threading.get_ident() != self._thread:
            self._channel.connection.cycle.hub.call_soon(lambda: None)

    def take(self) -> list[str]:
        """Return the tags that go along with a claim, first those that were sent and not confirmed."""
        if self._tags:
            # A new list: that of a claim which is on its way stays as it was sent.
            self._sent = self._sent.copy()
            while self._tags and len(self._sent) < MAX_ACKS:
                self._sent.append(self._tags.popleft())
        return self._sent

    def confirm(self, taken: list[str]) -> None:
        """Forget the tags that a call of `take` has returned: Redis has them.

        Two calls may be on their way at once, a claim, and a flush that sends the claim's tags again and others.
        """
        if taken is self._sent:
            self._sent = []
        else:
            confirmed = set(taken)
            self._sent = [tag for tag in self._sent if tag not in confirmed]
