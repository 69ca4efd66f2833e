"""Early delivery: a message that a blocking pop has moved is delivered when the claim that records it is sent.

It does not wait for the reply to that claim, which saves a job that comes alone a round trip. But the claim must have
been sent: a job that kills its whole worker would otherwise begin again and again, each time as if it were the first.
"""

from typing import Any

from pattern_storage.tasks.transport.message import Unreadable, load


class EarlyDelivery:
    """The message that a channel has delivered before the reply to its claim."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        # The delivery tag of the message, until the reply has been read.
        self._tag = ""

    def read(self, raw: bytes) -> Any:
        """Return a message with its tag; None if it cannot be read: the claim then puts it aside."""
        try:
            message = load(raw)
            return message, str(message["properties"]["delivery_tag"])
        except (Unreadable, LookupError, TypeError):
            return None

    def deliver(self, message: Any, tag: str, queue: str) -> bool:
        """Deliver a message whose claim has just been sent. Returns whether it is acknowledged or refused already."""
        claims = self._channel.claims
        self._tag = claims.claimed_tag = tag
        try:
            self._channel.deliver(message, queue)
        except Unreadable:
            # Delivered again with the reply to the claim, and refused there.
            self._tag = ""
        finally:
            claims.claimed_tag = ""
        return tag in self._channel.qos._dirty

    def has_delivered(self, tag: str) -> bool:
        """Whether a message in the reply to the claim has been delivered already."""
        return bool(tag) and tag == self._tag

    def end(self) -> None:
        """Note that the reply to the claim has been read."""
        self._tag = ""
