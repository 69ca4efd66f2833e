"""Early delivery: a message that a blocking pop has moved is delivered when the claim that records it is sent.

Not when that is answered, which takes a round trip out of the time of a job that comes alone. Sent it must be: a job
that kills its whole worker would otherwise begin again and again, each time as if it were the first.
"""

from typing import Any

from pattern_storage.tasks.transport.message import Unreadable, load


class EarlyDelivery:
    """What a channel delivers before its claim is answered."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        # The tag of what was delivered since the last claim was sent.
        self._tag = ""
        #: The delivery tag of the message that is being delivered.
        self.delivering = ""

    def read(self, raw: bytes) -> Any:
        """Return a message with its tag; None if it cannot be read, which the claim puts aside."""
        try:
            message = load(raw)
            return message, str(message["properties"]["delivery_tag"])
        except (Unreadable, LookupError, TypeError):
            return None

    def deliver(self, message: Any, tag: str, queue: str) -> bool:
        """Deliver a message whose claim has just been sent. Returns whether that is settled already, as if refused."""
        self._tag = self.delivering = tag
        try:
            self._channel.deliver(message, queue)
        except Unreadable:
            # As what it is after the claim: the answer has it again.
            self._tag = ""
        finally:
            self.delivering = ""
        return tag in self._channel.qos._dirty

    def has_delivered(self, tag: str) -> bool:
        """Whether a message that the claim's answer has needs no delivery."""
        return bool(tag) and tag == self._tag

    def end(self) -> None:
        """Note that the answer to the claim has been read."""
        self._tag = ""
