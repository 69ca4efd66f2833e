"""What is delivered and not acknowledged: kombu's book, except that claims are entered by the claim itself."""

from typing import Any

from pattern_storage.tasks.transport.kombu_parts import redis, virtual


class QoS(redis.QoS):  # type: ignore[misc]  # kombu's is untyped
    """kombu's Redis QoS for a channel that records while it claims and acknowledges many at a time."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a delivered message, in Redis too unless the claim has done that."""
        if delivery_tag == self.channel.claims.recorded_tag:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge: with the next turn if one comes within milliseconds, else now."""
        if self.channel.claims.collect_ack(delivery_tag):
            # Frees its place at once, so that the turn that carries it may claim another.
            virtual.QoS.ack(self, delivery_tag)
            self.channel.claims.wake()
        else:
            super().ack(delivery_tag)
