"""Claims that a process of the worker's pool makes on behalf of a channel (`tasks.worker.pool.pool_claims`)."""

from collections.abc import Callable
from typing import Any

from pattern_storage.tasks.transport.claim_call import claim
from pattern_storage.tasks.transport.message import load
from pattern_storage.tasks.transport.queue_keys import QueueKey, QueueKeys


class DelegatedClaims:
    """What the channel knows and does of claims that another process makes.

    Args:
        claims: the channel's own claims (`tasks.transport.claims`).
    """

    def __init__(self, claims: Any) -> None:
        self._claims, self._channel = claims, claims.channel
        #: Called when the channel must take no more messages, so that the other process must not either: at a stop,
        #: and in each iteration of the event loop at the prefetch limit.
        self.on_stop_waiting: Callable[[], None] = lambda: None
        # The queue for whose messages the other process alone waits now.
        self._left_to_process = ""

    def may_wait(self, queue: str) -> bool:
        """Whether messages of this queue may be taken now, by anybody, and must be acknowledged."""
        channel = self._channel
        return bool(
            queue in channel.active_queues
            and queue not in channel._no_ack_queues
            and channel.is_ahead
            and not channel.closing
            and self._claims.free_slots()
        )

    def claim_moved(self, queue: str, raw: bytes) -> None:
        """Claim a message that the process has moved to the `.claimed` list, and has not executed."""
        [queue_key, *_] = self._channel.queue_keys([queue])
        self._claims.pops.moved.append((queue_key, raw))

    def deliver(self, queue: str, raw: bytes) -> None:
        """Deliver a message whose claim the process has sent."""
        message = load(raw)
        self._claims.claimed_tag = str(message["properties"]["delivery_tag"])
        try:
            self._channel.deliver(message, queue)
        finally:
            self._claims.claimed_tag = ""

    def acknowledge(self, raw: bytes) -> None:
        """Acknowledge a message that was not delivered here, at once. The channel must be open."""
        client, tag = self._channel.plain_client, load(raw)["properties"]["delivery_tag"]
        claim(client, self._channel.unacked_keys, QueueKeys(), limit=0, acks=[tag])

    def leave_waiting(self, queue: str) -> None:
        """Leave it to the other process to wait for the messages of a queue, those without a priority."""
        if not self._left_to_process:
            self._left_to_process = queue
            self._claims.pops.end()

    def resume_waiting(self, *, claim: bool = False) -> None:
        """Have the channel wait again, after a claim if messages may wait already."""
        self._left_to_process = ""
        if claim:
            self._claims.queues_are_empty = False

    def leaves(self, queue_key: QueueKey) -> bool:
        """Whether the other process waits for the messages of this key, so that the channel need not."""
        return queue_key.queue == self._left_to_process and not queue_key.is_watched
