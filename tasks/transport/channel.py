"""A channel of kombu's Redis transport that claims messages instead of popping them."""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis import Redis
from redis.exceptions import ResponseError

from pattern_storage.tasks.transport.blocking_pop import QueueKey
from pattern_storage.tasks.transport.claim_call import claim_command, read_reply
from pattern_storage.tasks.transport.claims import Claims
from pattern_storage.tasks.transport.kombu_parts import redis
from pattern_storage.tasks.transport.polled_connection import polled_class
from pattern_storage.tasks.transport.qos import QoS
from pattern_storage.tasks.transport.scripts import CLAIM

#: Names of the transport options beyond kombu's.
TRANSPORT_OPTIONS = ("claim_ahead", "claim_limit")


class Channel(redis.Channel):  # type: ignore[misc]  # kombu's is untyped
    """See `tasks.transport.transport` for the protocol.

    Transport options beyond kombu's:
        claim_ahead: prefetch as many messages as the limit allows, and collect acknowledgements. Only with an
            event loop, and only for a consumer that hands messages on: one that works inside its callback, as the
            solo pool does, would keep them waiting. Off unless the worker's bootstep says so.
        claim_limit: messages in one claim at most, 32.
    """

    QoS = QoS

    claim_ahead = False
    claim_limit = 32
    from_transport_options = (*redis.Channel.from_transport_options, *TRANSPORT_OPTIONS)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._no_ack_queues: set[str] = set()
        self._kept_client: Any = None
        self._kept_plain_client: Any = None
        self.claims = Claims(self)
        super().__init__(*arguments, **options)

    # --- for Claims ---

    @property
    def closing(self) -> bool:
        """Whether it claims no more."""
        return bool(self._closing) or not self._consumers

    @property
    def unacked_keys(self) -> tuple[str, str]:
        """The keys of kombu's hash of unacked messages and of its index."""
        return f"{self.global_keyprefix}{self.unacked_key}", f"{self.global_keyprefix}{self.unacked_index_key}"

    def next_queues(self) -> list[str]:
        """Return the queues in the order of kombu's `queue_order_strategy`."""
        queues: list[str] = self._queue_cycle.consume(len(self.active_queues))
        return queues

    def queue_keys(self, queues: Iterable[str], no_ack: bool | None = None) -> list[QueueKey]:
        """Return the keys of these queues in the order in which messages may be taken from them."""
        names = list(queues)
        return [
            QueueKey(
                queue,
                f"{self.global_keyprefix}{self._q_for_pri(queue, step)}",
                bool(self.ack_emulation) and not (queue in self._no_ack_queues if no_ack is None else no_ack),
            )
            for step in self.priority_steps
            for queue in names
        ]

    def deliver(self, message: Any, queue: str) -> None:
        """Deliver a message to its consumer."""
        self._queue_cycle.rotate(queue)
        self.connection._deliver(message, queue)

    # --- clients ---

    def _connparams(self, asynchronous: bool = False) -> Any:
        parameters = super()._connparams(asynchronous)
        if asynchronous:
            parameters["connection_class"] = polled_class(parameters["connection_class"], self)
        return parameters

    def leave_poller(self, connection: Any) -> None:
        """Unregister a connection that is about to be closed from the poller."""
        # kombu asks the same before it tells the poller of one that has been closed.
        if self._registered and self.connection and self.connection.cycle and connection._sock is not None:
            self.connection.cycle.unregister(connection._sock)

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return a client. For commands it is one that is kept: kombu builds one for every message."""
        if asynchronous:
            return super()._create_client(asynchronous)
        # The pool is another one after a fork or a close.
        if self._kept_client is None or self._kept_client.connection_pool is not self.pool:
            self._kept_client = super()._create_client()
        return self._kept_client

    @property
    def plain_client(self) -> Any:
        """A client that puts no prefix before keys: of a script's keys kombu's would prefix the first alone."""
        if self._kept_plain_client is None or self._kept_plain_client.connection_pool is not self.pool:
            provider = self.pool.connection_kwargs.get("credential_provider")
            self._kept_plain_client = Redis(connection_pool=self.pool, credential_provider=provider)
        return self._kept_plain_client

    @property
    def async_pool(self) -> Any:
        """The pool of connections that wait: as many as there are queues and priorities, whatever the limit."""
        pool = super().async_pool
        pool.max_connections = max(pool.max_connections, 1 << 20)
        return pool

    # --- kombu's methods ---

    def basic_consume(self, queue: str, no_ack: bool = False, *arguments: Any, **options: Any) -> Any:
        """Consume from a queue."""
        (self._no_ack_queues.add if no_ack else self._no_ack_queues.discard)(queue)
        answer = super().basic_consume(queue, no_ack, *arguments, **options)
        if queue not in self.active_fanout_queues:
            self.claims.on_consume(queue)
        return answer

    def _basic_cancel(self, consumer_tag: str) -> Any:
        answer = super()._basic_cancel(consumer_tag)
        if not self._closing:
            self.claims.on_cancel()
        return answer

    def basic_get(self, queue: str, no_ack: bool = False, **options: Any) -> Any:
        """Return a message, recorded as unacked in the step that takes it; None if there is none."""
        command, known = claim_command(self.unacked_keys, self.queue_keys([queue], no_ack), limit=1)
        _, claimed = read_reply(CLAIM.send(self.plain_client, command), known)
        self._maybe_update_queues_expire(self._create_client(), queue)
        if not claimed:
            return None
        message = self.Message(loads(bytes_to_str(claimed[0].raw)), channel=self)
        if not no_ack:
            self.claims.claimed_tag = message.delivery_tag
            self.qos.append(message, message.delivery_tag)
            self.claims.claimed_tag = None
        return message

    def _delete(self, queue: str, *arguments: Any, **options: Any) -> None:
        super()._delete(queue, *arguments, **options)
        self.plain_client.delete(*(f"{queue_key.key}.claimed" for queue_key in self.queue_keys([queue])))

    def _on_connection_disconnect(self, connection: Any) -> None:
        for each in self.claims.connections:
            if each.connection is connection:
                each.sent_at = None
        super()._on_connection_disconnect(connection)

    def _after_fork(self) -> None:
        # What is claimed and in flight is the parent's.
        self.claims = Claims(self)
        super()._after_fork()

    def _disconnect_pools(self) -> None:
        managers = filter(None, (self._sentinel_manager, self._async_sentinel_manager))
        pools = [sentinel.connection_pool for manager in managers for sentinel in manager.sentinels]
        for pool in (self._pool, self._async_pool, *pools):
            if pool is not None and pool.pid != os.getpid():
                # A forked child closes its copies. Left alone the pool forgets its connections and keeps them open;
                # and the poller is shared with the parent, who goes on polling.
                pool.pid = os.getpid()
                self._registered = False
        super()._disconnect_pools()

    def close(self) -> None:
        """Leave nothing claimed, then close as kombu does."""
        if not self.closed:
            self._closing = True
            for step in self.claims.quiesce_steps:
                # Without a server nothing can be put back: what is claimed returns with a sweep.
                with suppress(*self.connection_errors, ResponseError):
                    step()
        super().close()
