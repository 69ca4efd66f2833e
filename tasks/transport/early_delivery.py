"""Early delivery: a message that a blocking pop has moved is delivered before the claim that records it is answered.

That takes a round trip out of the time of a job that comes alone. The claim is sent in the same turn of the event loop,
and its acknowledgement goes with a later one: it must not reach the server before the record.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

from pattern_storage.tasks.transport.blocking_pop import QueueKey
from pattern_storage.tasks.transport.message import Unreadable, load


class EarlyDeliveries:
    """The early deliveries of one channel."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        # By delivery tag; no claim was sent that records them.
        self._unrecorded: dict[str, tuple[QueueKey, bytes]] = {}
        # The tags of those that the last claim was sent to record.
        self._sent: frozenset[str] = frozenset()
        # Their acknowledgements; other threads append to it.
        self._acks: deque[str] = deque()
        #: The delivery tag of the message that is being delivered.
        self.tag = ""

    @property
    def need_claim(self) -> bool:
        """Whether a message is to be recorded."""
        return bool(self._unrecorded)

    @property
    def have_acks(self) -> bool:
        """Whether acknowledgements wait for the next claim but one."""
        return bool(self._acks)

    def deliver(self, queue_key: QueueKey, raw: bytes) -> bool:
        """Deliver a message. Returns False for one that cannot be read: the claim puts it aside."""
        try:
            message = load(raw)
            tag = str(message["properties"]["delivery_tag"])
        except (Unreadable, LookupError, TypeError):
            return False
        self._unrecorded[tag], self.tag = (queue_key, raw), tag
        try:
            self._channel.deliver(message, queue_key.queue)
        except Unreadable:
            del self._unrecorded[tag]
            return False
        finally:
            self.tag = ""
        return True

    def hold_ack(self, tag: str) -> bool:
        """Keep an acknowledgement if no claim has recorded its message. Returns whether it is kept."""
        if tag not in self._unrecorded:
            return False
        self._acks.append(tag)
        return True

    def take(self) -> list[tuple[QueueKey, bytes]]:
        """Return what the next claim has to record. Call it after the acknowledgements of that claim were taken."""
        taken, self._unrecorded = self._unrecorded, {}
        self._sent = frozenset(taken)
        # What was refused is settled as well, without an acknowledgement.
        settled = self._channel.qos._dirty
        self._acks.extend(tag for tag in taken if tag in settled and tag not in self._acks)
        return list(taken.values())

    def take_acks(self) -> Iterator[str]:
        """Yield the acknowledgements of what the claim that was just sent records."""
        while self._acks:
            yield self._acks.popleft()

    def has_delivered(self, tag: str) -> bool:
        """Whether the message that a claim has recorded needs no delivery."""
        return tag in self._sent
