"""A channel of kombu's Redis transport that claims messages instead of popping them."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from types import MappingProxyType
from typing import Any

from kombu.log import get_logger
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps
from redis.exceptions import ResponseError

from pattern_storage.tasks.redis_errors import ServerRefuses
from pattern_storage.tasks.transport.channel_clients import ChannelClients
from pattern_storage.tasks.transport.claim_call import claim
from pattern_storage.tasks.transport.claims import Claims
from pattern_storage.tasks.transport.kombu_parts import redis, virtual
from pattern_storage.tasks.transport.message import Message, Unreadable, load
from pattern_storage.tasks.transport.qos import QoS
from pattern_storage.tasks.transport.queue_keys import UNLIMITED, QueueKey, QueueKeys
from pattern_storage.tasks.transport.scripts import PUT_ASIDE

logger = get_logger(__name__)

#: Names of the transport options beyond kombu's.
TRANSPORT_OPTIONS = ("claim_ahead", "claim_limit")


class Channel(ChannelClients):
    """kombu's Redis channel with claims. See `tasks.transport.transport` for the protocol.

    Transport options beyond kombu's:
        claim_ahead: claim as many messages as the prefetch limit allows, and collect acknowledgements. Only with an
            event loop, and only for a consumer that hands messages on: one that works inside its callback, as the
            solo pool does, would keep them waiting. Off unless the worker's bootstep turns it on.
        claim_limit: messages in one claim at most, 32.

    Set by the worker's bootstep as well:
        queue_prefetch: messages of a queue in flight at most, by queue, within the common prefetch limit: a worker
            takes many short jobs ahead, but must not take all the long ones away from other workers.
    """

    QoS = QoS
    Message = Message

    claim_ahead = False
    claim_limit = 32
    queue_prefetch: Mapping[str, int] = MappingProxyType({})
    from_transport_options = (*redis.Channel.from_transport_options, *TRANSPORT_OPTIONS)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        #: Time of the monotonic clock.
        self.opened_at = monotonic()
        self._no_ack_queues: set[str] = set()
        self.claims = Claims(self)
        # They are needed in each iteration of the event loop, and nearly always the same.
        self._queue_keys = lru_cache(100)(self._build_queue_keys)
        super().__init__(*arguments, **options)

    # --- for Claims ---

    @property
    def closing(self) -> bool:
        """Whether the channel claims no more messages."""
        return bool(self._closing) or not self._consumers

    @property
    def is_ahead(self) -> bool:
        """Whether the channel claims ahead; without an event loop it does not."""
        return bool(self.claim_ahead) and self.connection.cycle.hub is not None

    @property
    def unacked_keys(self) -> tuple[str, str]:
        """The keys of kombu's hash of unacked messages and of its index."""
        return f"{self.global_keyprefix}{self.unacked_key}", f"{self.global_keyprefix}{self.unacked_index_key}"

    def next_queues(self) -> list[str]:
        """Return the queues in the order of kombu's `queue_order_strategy`."""
        queues: list[str] = self._queue_cycle.consume(len(self.active_queues))
        return queues

    def queue_keys(self, queues: Iterable[str], no_ack: bool | None = None) -> QueueKeys:
        """Return the keys of these queues in the order in which messages may be taken from them."""
        return self._queue_keys(tuple((queue, self._free(queue), self._needs_ack(queue, no_ack)) for queue in queues))

    def _needs_ack(self, queue: str, no_ack: bool | None) -> bool:
        return bool(self.ack_emulation) and not (queue in self._no_ack_queues if no_ack is None else no_ack)

    def _build_queue_keys(self, queues: tuple[tuple[str, int, bool], ...]) -> QueueKeys:
        return QueueKeys(
            QueueKey(
                queue,
                f"{self.global_keyprefix}{self._q_for_pri(queue, step)}",
                needs_ack,
                free,
                # Where few messages come, waking all workers is cheaper than a connection for each key.
                step != self.priority_steps[0] or queue in self.queue_prefetch,
            )
            for step in self.priority_steps
            for queue, free, needs_ack in queues
        )

    def _free(self, queue: str) -> int:
        """Return how many messages of a queue the channel may still have in flight."""
        limit = self.queue_prefetch.get(queue)
        if limit is None:
            return UNLIMITED
        # kombu keeps acknowledged messages until it next looks through all.
        in_flight = (message for tag, message in self.qos._delivered.items() if tag not in self.qos._dirty)
        held = sum(message.delivery_info.get("routing_key") == queue for message in in_flight)
        return max(limit - int(held), 0)

    def deliver(self, message: Any, queue: str) -> None:
        """Deliver a message to its consumer."""
        self._queue_cycle.rotate(queue)
        self.connection._deliver(message, queue)

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
        reply = claim(self.plain_client, self.unacked_keys, self.queue_keys([queue], no_ack), limit=1)
        self._maybe_update_queues_expire(self._create_client(), queue)
        if reply.error is not None:
            raise reply.error
        if not reply.claimed:
            return None
        queue_key, tag, raw = reply.claimed[0]
        try:
            message = self.Message(load(raw), channel=self)
        except Unreadable:
            self.put_aside(queue_key.key, tag, raw)
            raise
        if not no_ack:
            self.claims.claimed_tag = tag
            self.qos.append(message, message.delivery_tag)
            self.claims.claimed_tag = ""
        return message

    def refuse(self, message: Any) -> str:
        """Put a delivered message aside that its consumer cannot use. Returns the name of the Redis list."""
        exchange, routing_key = message.delivery_info["exchange"], message.delivery_info["routing_key"]
        queue = next(iter(self._lookup(exchange, routing_key)), routing_key)
        [queue_key, *_] = self.queue_keys([queue])
        self.put_aside(queue_key.key, message.delivery_tag, dumps(message._raw))
        self.claims.keep_if_early(message.delivery_tag)
        virtual.QoS.ack(self.qos, message.delivery_tag)
        message._state = "REJECTED"
        return f"{queue_key.key}.unreadable"

    def put_aside(self, key: str, tag: str, raw: bytes | str) -> None:
        """Move a message to the list `.unreadable` beside its queue, where an operator finds it."""
        PUT_ASIDE.run(self.plain_client, [*self.unacked_keys, key], [tag, raw])

    def _receive_one(self, client: Any) -> Any:
        """Deliver one broadcast; kombu's ends the process for one that cannot be read."""
        try:
            reply = client.parse_response()
        except self.connection_errors:
            self._in_listen = None
            raise
        if not isinstance(reply, list | tuple):
            return None
        broadcast = self._handle_message(client, reply)
        if not bytes_to_str(broadcast["type"]).endswith("message") or not broadcast["data"]:
            return None
        # "/0.celery.pidbox", with the routing key of a topic after a "/".
        topic = bytes_to_str(broadcast["channel"])
        exchange = (topic.partition(".")[2] if topic.startswith("/") else topic).split("/", 1)[0]
        try:
            return self._deliver_fanout_message(load(broadcast["data"]), exchange)
        except Unreadable as error:
            logger.error("refused a broadcast on %s: %s; it is not kept", topic, error)
            return None

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)
        except ServerRefuses as error:
            if error.code != "OOM":
                raise
            # A consumer works without, and empties the full server. Publishers fall back on the queue of that name.
            logger.warning("cannot write down that the queue %s exists: %s", queue, error)

    def queue_delete(self, queue: str, *arguments: Any, **options: Any) -> Any:
        """Delete a queue. A channel that closes deletes its own, and closes also where the server refuses that."""
        with suppress(*((*self.connection_errors, ResponseError) if self._closing else ())):
            return super().queue_delete(queue, *arguments, **options)
        return None

    def _delete(self, queue: str, *arguments: Any, **options: Any) -> None:
        super()._delete(queue, *arguments, **options)
        self.plain_client.delete(*(f"{queue_key.key}.claimed" for queue_key in self.queue_keys([queue])))

    def _on_connection_disconnect(self, connection: Any) -> None:
        for polled in self.claims.connections:
            if polled.connection is connection:
                polled.sent_at = None
        super()._on_connection_disconnect(connection)

    def _after_fork(self) -> None:
        # Claims and messages in flight are the parent's.
        self.claims = Claims(self)
        super()._after_fork()

    def _disconnect_pools(self) -> None:
        managers = filter(None, (self._sentinel_manager, self._async_sentinel_manager))
        pools = [sentinel.connection_pool for manager in managers for sentinel in manager.sentinels]
        for pool in (self._pool, self._async_pool, *pools):
            if pool is not None and pool.pid != os.getpid():
                # A forked child closes its copies of the sockets; the pool would forget its connections and leave them
                # open. The child shares the poller with the parent, which goes on polling: it unregisters nothing.
                pool.pid = os.getpid()
                self._registered = False
        super()._disconnect_pools()

    def close(self) -> None:
        """Leave nothing claimed, then close as kombu does."""
        if not self.closed:
            self._closing = True
            for step in self.claims.quiesce_steps:
                # Without a server nothing can be put back; claimed messages return with a sweep.
                with suppress(*self.connection_errors, ResponseError):
                    step()
        try:
            super().close()
        finally:
            self.leave_no_connection_open()
