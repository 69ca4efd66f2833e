"""kombu's QoS, the record of unacked messages, except that the claim itself writes it into Redis."""

from contextlib import suppress
from time import monotonic
from typing import Any

from kombu.utils.encoding import bytes_to_str

from pattern_storage.tasks.redis_errors import ServerRefuses
from pattern_storage.tasks.transport.kombu_parts import redis, virtual
from pattern_storage.tasks.transport.restore import overdue, restore

#: Part of the visibility timeout for which a new connection redelivers nothing. While a server is away no worker can
#: renew the messages that it holds, and each does so as soon as it has connected again.
GRACE = 0.75
#: Seconds after which the rest waits for the next sweep: the event loop does nothing else meanwhile, renewals included.
SWEEP_TIME = 1.0
#: Messages that one sweep puts back at most.
SWEEP_SIZE = 1_000


class QoS(redis.QoS):  # type: ignore[misc]  # kombu's is untyped
    """kombu's Redis QoS for a channel whose claims record messages as unacked, and acknowledge many at a time."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Record a delivered message as unacked, in Redis too unless its claim has done that."""
        if delivery_tag == self.channel.claims.claimed_tag:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def restore_visible(self, start: int = 0, num: int | None = 10, interval: int = 10) -> None:
        """Put back all messages that are overdue by the server's clock; kombu's takes that of each host."""
        channel = self.channel
        is_new = monotonic() - channel.opened_at < GRACE * self.visibility_timeout
        if is_new or not overdue(channel, channel.unacked_keys, self.visibility_timeout, 1):
            return
        # One worker at a time.
        with (
            suppress(redis.MutexHeld),
            channel.conn_or_acquire() as client,
            redis.Mutex(client, self.unacked_mutex_key, self.unacked_mutex_expire),
        ):
            until = monotonic() + SWEEP_TIME
            for tag in overdue(channel, channel.unacked_keys, self.visibility_timeout, SWEEP_SIZE):
                self.restore_by_tag(tag)
                if monotonic() > until:
                    break

    def restore_unacked(self, client: Any = None) -> None:
        """Put all messages that the channel holds back, the oldest to be taken next. Its consumer ends."""
        for tag, message in reversed(list(self._delivered.items())):
            restore(self.channel, self.channel.unacked_keys, tag, begun=message.has_begun())
        self._delivered.clear()

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put an unacked message back into its queue."""
        restore(self.channel, self.channel.unacked_keys, bytes_to_str(tag), leftmost)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge: with the next claim if one comes within milliseconds, else now."""
        claims = self.channel.claims
        if claims.acks.collect(delivery_tag):
            # Frees its slot of the prefetch limit at once, so that the claim that carries it may take another.
            virtual.QoS.ack(self, delivery_tag)
            claims.acks.wake()
            return
        claims.keep_if_early(delivery_tag)
        try:
            super().ack(delivery_tag)
        except ServerRefuses:
            virtual.QoS.ack(self, delivery_tag)
            claims.acks.keep(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Put a message back into its queue, or acknowledge it."""
        if requeue:
            super().reject(delivery_tag, requeue=True)
        else:
            self.ack(delivery_tag)
