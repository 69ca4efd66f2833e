"""Acknowledgements of a channel: each goes with a claim, and waits a few milliseconds for one if none is due."""

import threading
from time import monotonic
from typing import Any

from pattern_storage.tasks.transport.claim_call import ClaimCall

#: Seconds that acknowledgements wait for a claim that takes them along. What is redelivered for that is replayed.
ACK_DELAY = 0.005
#: Seconds. An event loop that worked so recently works again soon enough to carry an acknowledgement.
LOOP_ALIVE = 0.05


class Acknowledgements:
    """When the acknowledgements of one channel are sent."""

    def __init__(self, channel: Any, call: ClaimCall) -> None:
        self._channel, self._call = channel, call
        self._thread, self._turn_began = 0, 0.0
        #: When they are sent, though no claim takes them along; None if none wait.
        self.due_at: float | None = None

    def begin_turn(self) -> None:
        """Note that the event loop works, in this thread."""
        self._thread, self._turn_began = threading.get_ident(), monotonic()

    def are_due(self) -> bool:
        """Whether some have waited long enough."""
        if not self._call.has_unconfirmed_acks:
            return False
        if not self._channel.is_ahead:
            return True
        if self.due_at is None:
            self.due_at = self._turn_began + ACK_DELAY
            # Another turn of the event loop, which asks again.
            self._channel.connection.cycle.hub.call_later(ACK_DELAY, lambda: None)
        return self._turn_began >= self.due_at

    def collect(self, tag: str) -> bool:
        """Send an acknowledgement along with a claim, if one is milliseconds away. Returns whether it is.

        It always is for the thread of the event loop, whose next turn begins when this one has ended: a busy machine,
        where turns are long, would otherwise send each alone and become busier still.
        """
        if self._channel.closing or not self._channel.is_ahead:
            return False
        if threading.get_ident() != self._thread and monotonic() - self._turn_began > LOOP_ALIVE:
            return False
        self._call.acks.append(tag)
        return True

    def keep(self, tag: str) -> None:
        """Keep an acknowledgement that the server refused for now, for the next claim."""
        self._call.acks.append(tag)

    def wake(self) -> None:
        """Wake the event loop, if this is another thread: a pool of threads acknowledges from its own."""
        if threading.get_ident() != self._thread:
            self._channel.connection.cycle.hub.call_soon(lambda: None)
