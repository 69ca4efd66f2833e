"""The claims of a channel: when to claim, when to wait, and how nothing claimed is left behind."""

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from kombu.log import get_logger

from pattern_storage.tasks.transport.acknowledgements import Acknowledgements
from pattern_storage.tasks.transport.blocking_pop import BlockingPops
from pattern_storage.tasks.transport.claim_call import ClaimCall, Claimed, Moved, claim
from pattern_storage.tasks.transport.delegated_claims import DelegatedClaims
from pattern_storage.tasks.transport.key_watch import KeyWatch
from pattern_storage.tasks.transport.message import Unreadable, load
from pattern_storage.tasks.transport.queue_keys import QueueKey, QueueKeys
from pattern_storage.tasks.transport.restore import sweep
from pattern_storage.tasks.transport.scripts import RELEASE

logger = get_logger(__name__)


class Claims:
    """The claims of one channel. See `tasks.transport.transport` for the protocol."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.pops = BlockingPops(channel, self._deliver_early)
        self._watch = KeyWatch(channel, self.pops.refusal)
        self._call = ClaimCall(channel, self._on_reply)
        self.acks = Acknowledgements(channel)
        # Those that the last claim took along.
        self._taken_acks: list[str] = []
        # Claimed, not delivered yet.
        self._ready: deque[Claimed] = deque()
        #: Whether the last claim left nothing in the queues, so that waiting is all there is to do.
        self.queues_are_empty = False
        self._swept_at = 0.0
        # The delivery tag of a message that was delivered before the reply to its claim, until the next claim.
        self._early_tag = ""
        #: Those that another process makes on behalf of the channel.
        self.delegated = DelegatedClaims(self)
        #: The delivery tag of the message that is being delivered, if its claim records it as unacked.
        self.claimed_tag = ""

    @property
    def connections(self) -> list[Any]:
        """All polled connections of the channel."""
        return [self._call, self._watch, *self.pops.connections]

    def free_slots(self) -> int:
        """Return how many messages the prefetch limit lets the channel claim now."""
        qos = self.channel.qos
        if not qos.can_consume():
            return 0
        # Celery's `worker_disable_prefetch` replaces `can_consume` on the instance, and allows one more at a time.
        limit = self.channel.claim_limit if self.channel.is_ahead and "can_consume" not in vars(qos) else 1
        estimate = qos.can_consume_max_estimate()
        return max(min(limit, limit if estimate is None else estimate) - len(self._ready), 0)

    # --- without waiting for a reply ---

    def work(self) -> None:
        """Send a claim or begin to wait, whichever is due. Called before each poll; waits for no reply."""
        if not self.channel.active_queues:
            return
        self.acks.begin_iteration()
        slots = self.free_slots()
        if not slots:
            self.stop_waiting()
        if self._call.pending or monotonic() < self._call.retry_at:
            return
        if self.pops.refused or self._watch.changed:
            self.pops.refused = self._watch.changed = self.queues_are_empty = False
        if self.pops.moved or (slots and not self.queues_are_empty) or self.acks.are_due():
            self._begin_claim(slots)
        elif slots:
            keys = self.channel.queue_keys(self.channel.active_queues)
            self._wait([key for key in keys if key.free and not self.delegated.leaves(key)])

    def _wait(self, queue_keys: list[QueueKey]) -> None:
        watched = [key for key in queue_keys if key.is_watched]
        if self._watch.begin(watched):
            queue_keys = [key for key in queue_keys if not key.is_watched]
        self.pops.begin(queue_keys)

    def _begin_claim(self, slots: int, early: Moved = ()) -> None:
        queues = self.channel.next_queues() if slots else []
        # Round robin between queues of one priority; in any other order a queue waits until those before are empty.
        round_size = max(len(queues), 1) if self.channel.queue_order_strategy == "round_robin" else 1
        moved, self.pops.moved = self.pops.moved, []
        self.acks.due_at = None
        self._early_tag = ""
        self._taken_acks = self.acks.take()
        self._call.begin(self.channel.queue_keys(queues), slots, round_size, self._taken_acks, moved, early)

    def _end_claim(self) -> None:
        reply = self._call.end()
        if reply is None:
            # Its acknowledgements go with the next claim; moved messages stay in the `.claimed` lists until a sweep.
            return
        self.acks.confirm(self._taken_acks)
        self.queues_are_empty = not reply.waiting
        self._ready.extend(message for message in reply.claimed if not message.tag or message.tag != self._early_tag)
        if reply.error is not None:
            raise reply.error

    def _on_reply(self) -> bool:
        self._end_claim()
        return self.deliver()

    def _deliver_early(self, queue_key: QueueKey, raw: bytes) -> bool:
        """Claim a message that a blocking pop has just moved, and deliver it without waiting for the reply.

        That saves a job that comes alone a round trip. But its claim has been sent by then: a job that kills its whole
        worker would otherwise begin again and again, each time as if it were the first.

        Returns False, and does neither, for a message that has to wait for the reply to a claim.
        """
        may_deliver = (
            self.channel.is_ahead
            and not (self._call.pending or self.pops.moved or self.channel.closing)
            and monotonic() >= self._call.retry_at
            and queue_key.needs_ack
            and not queue_key.is_watched
            and queue_key.queue in self.channel.active_queues
            and (slots := self.free_slots())
        )
        if not may_deliver:
            return False
        try:
            message = load(raw)
            tag = str(message["properties"]["delivery_tag"])
        except (Unreadable, LookupError, TypeError):
            # The claim puts it aside.
            return False
        self._begin_claim(slots - 1, [(queue_key, raw)])
        self._early_tag = self.claimed_tag = tag
        try:
            self.channel.deliver(message, queue_key.queue)
        except Unreadable:
            # Delivered again with the reply to the claim, and refused there.
            self._early_tag = ""
        finally:
            self.claimed_tag = ""
        return True

    def keep_if_early(self, tag: str) -> None:
        """Acknowledge a message with the next claim as well, if the claim that records it may still be on its way."""
        if tag == self._early_tag:
            self.acks.keep(tag)

    def deliver(self) -> bool:
        """Deliver the claimed messages, or one of them to a consumer that works inside its callback."""
        is_ahead, delivered = self.channel.is_ahead, False
        if self._ready and not is_ahead:
            # No reply is read while the consumer works.
            self.stop_waiting()
        while self._ready and (is_ahead or not delivered):
            claimed = self._ready.popleft()
            if claimed.queue_key.queue not in self.channel.active_queues:
                self._release([claimed])
                continue
            delivered |= self._deliver(claimed)
        return delivered

    def _deliver(self, claimed: Claimed) -> bool:
        """Deliver a message. Returns False for one that cannot be read, which is put aside."""
        queue_key, self.claimed_tag, raw = claimed
        try:
            self.channel.deliver(load(raw), queue_key.queue)
        except Unreadable as error:
            self.channel.put_aside(queue_key.key, claimed.tag, raw)
            logger.error("refused a message: %s; kept in the Redis list %s.unreadable", error, queue_key.key)
            return False
        finally:
            self.claimed_tag = ""
        return True

    # --- leaving nothing behind ---

    def stop_waiting(self) -> None:
        """End all blocking pops now, and put back the messages that they have moved."""
        self.delegated.on_stop_waiting()
        if not self.pops.pending and not self.pops.moved:
            return
        self.queues_are_empty = False
        self.pops.end()
        self._flush()

    def _flush(self) -> None:
        """Put moved messages back and send all acknowledgements, waiting for the replies."""
        while self.pops.moved or self.acks.are_unconfirmed:
            moved, self.pops.moved = self.pops.moved, []
            client, keys = self.channel.plain_client, self.channel.unacked_keys
            acks = self.acks.take()
            claim(client, keys, QueueKeys(), limit=0, acks=acks, moved=moved)
            self.acks.confirm(acks)

    def quiesce(self) -> None:
        """Leave nothing claimed that is not delivered, and no acknowledgement that is not sent."""
        for step in self.quiesce_steps:
            step()
        self.queues_are_empty = False

    @property
    def quiesce_steps(self) -> tuple[Callable[[], None], ...]:
        """The steps of `quiesce`. When one of them fails because its connection broke, the others still do good."""
        return self._finish_claim, self.stop_waiting, self._release_ready, self._flush

    def _finish_claim(self) -> None:
        if self._call.pending:
            self._end_claim()

    def _release_ready(self) -> None:
        if self._ready:
            self._release(list(self._ready))
            self._ready.clear()

    def _release(self, messages: list[Claimed]) -> None:
        arguments = [part for message in messages for part in (message.tag, message.raw)]
        keys = [*self.channel.unacked_keys, *(message.queue_key.key for message in messages)]
        RELEASE.run(self.channel.plain_client, keys, arguments)

    def sweep_if_due(self) -> None:
        """Sweep all queues that are consumed from, if that was not done lately."""
        # Half: the timer that calls has the same period, and is never exact.
        if monotonic() - self._swept_at >= self.channel.unacked_restore_interval / 2:
            self._swept_at = monotonic()
            sweep(self.channel, self.channel.active_queues)

    def on_consume(self, queue: str) -> None:
        """Begin to consume from a queue: put back the messages that a killed worker may have left of it."""
        sweep(self.channel, [queue])
        self.queues_are_empty = False

    def on_cancel(self) -> None:
        """Let go of the queues that are no longer consumed from."""
        self.quiesce()
        self.pops.close_others(self.channel.queue_keys(self.channel.active_queues))

    def drop_dead_connections(self, patience: float) -> None:
        """Close connections whose reply is `patience` seconds late."""
        for connection in self.connections:
            if connection.disconnect_if_dead(patience):
                logger.warning("%s: no answer from Redis for %.0f s, connecting again", connection.name, patience)
