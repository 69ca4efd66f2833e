"""The two Redis connections of a pool process that claims by itself: for the blocking pop, and for claims."""

import select
from contextlib import suppress
from time import monotonic
from typing import Any

from celery import current_app
from kombu.exceptions import KombuError
from redis.exceptions import RedisError, ResponseError

from pattern_storage.tasks.redis_errors import code_of
from pattern_storage.tasks.resp import bulk, pack
from pattern_storage.tasks.transport.blocking_pop import UNBLOCK_POLL, UNBLOCK_TIMEOUT
from pattern_storage.tasks.transport.claim_call import claim_arguments
from pattern_storage.tasks.transport.queue_keys import QueueKey, QueueKeys
from pattern_storage.tasks.transport.scripts import CLAIM
from pattern_storage.tasks.wire import Wire, Wires

#: Seconds that a pop waits on the server at most, and for which its reply may be late.
POP_TIMEOUT, PATIENCE = 10.0, 5.0


class ClaimConnections:
    """Both connections. Raises redis.exceptions.RedisError or OSError wherever it speaks to the server."""

    def __init__(self) -> None:
        self._broker = current_app.connection_for_read()
        try:
            self._open()
        except BaseException:
            self._broker.release()
            raise

    def _open(self) -> None:
        # Without it, kombu would try again and again, and no call would be read meanwhile.
        self._broker.ensure_connection(max_retries=0)
        channel: Any = self._broker.default_channel
        queue = current_app.conf.task_default_queue
        key = f"{channel.global_keyprefix}{channel._q_for_pri(queue, channel.priority_steps[0])}"
        self._queue_keys = QueueKeys([QueueKey(queue, key, needs_ack=True)])
        self._keys = [*channel.unacked_keys, key]
        self._packed_keys = bulk(self._keys)
        self._pop_command = pack("BLMOVE", key, f"{key}.claimed", "RIGHT", "LEFT", POP_TIMEOUT)
        wires = Wires(channel.plain_client, Wire)
        timeout = current_app.conf.broker_transport_options.get("socket_timeout", PATIENCE)
        self._pop, self._claim = wires.open(timeout), wires.open(timeout)
        # The channel's own is not needed any more.
        channel.plain_client.connection_pool.disconnect()
        # Of the claim that is being sent, or has been sent and not been answered, and whether all of it was sent.
        self._arguments: list[Any] = []
        self._is_sent = False
        #: Whether a pop has been sent whose reply has not been read.
        self.waits, self._sent_at = False, 0.0
        self.client_id = int(self._ask(self._pop, "CLIENT", "ID"))
        # Raises an error where that is forbidden: then nobody could wake this process.
        self._ask(self._claim, "CLIENT", "UNBLOCK", 0)
        #: The file descriptor on which the reply of the pop can be read.
        self.pop_fd = self._pop.fileno()
        self._poll = select.poll()
        self._poll.register(self.pop_fd, select.POLLIN)

    def wait(self) -> None:
        """Send the blocking pop."""
        self._pop.send(self._pop_command)
        self.waits, self._sent_at = True, monotonic()

    def check(self) -> None:
        """Raise TimeoutError if the reply of the pop is late: the server vanished without closing the connection."""
        if monotonic() > self._sent_at + POP_TIMEOUT + PATIENCE:
            raise TimeoutError("no answer from Redis")

    def read_pop(self) -> Any:
        """Read the message that the pop has moved; None if it was woken."""
        self.waits = False
        return _checked(self._pop.receive_reply())

    def wake(self) -> Any:
        """End the pop; return the message that it had just moved, if any. Raises OSError after UNBLOCK_TIMEOUT."""
        deadline = monotonic() + UNBLOCK_TIMEOUT
        while not self._poll.poll(0):
            # The pop may still be on its way: ask again.
            if not self._ask(self._claim, "CLIENT", "UNBLOCK", self.client_id) and monotonic() > deadline:
                raise TimeoutError("no answer from Redis")
            self._poll.poll(1000 * UNBLOCK_POLL)
        return self.read_pop()

    def send_claim(self, raw: bytes) -> None:
        """Send the claim of a message that the pop has moved, unless that was tried. `read_claim` raises the error."""
        if self._arguments:
            return
        [queue_key] = self._queue_keys
        _, self._arguments = claim_arguments(self._queue_keys, 0, early=[(queue_key, raw)])
        with suppress(OSError):
            self._claim.send(CLAIM.packed(len(self._keys), self._packed_keys, self._arguments))
            self._is_sent = True

    def read_claim(self) -> int:
        """Read the reply of the claim; return how many messages wait in the queue.

        A server that refuses the claim leaves the message in `.claimed`. A sweep returns it, and its job is replayed.
        """
        if not self._is_sent:
            raise ConnectionResetError("the claim could not be sent")
        reply = self._claim.receive_reply()
        if isinstance(reply, ResponseError) and code_of(reply) == "NOSCRIPT":
            # Nothing has happened yet: the server has been restarted.
            reply = self._ask(self._claim, "EVAL", CLAIM.text, len(self._keys), *self._keys, *self._arguments)
        self._arguments, self._is_sent = [], False
        return int(_checked(reply)[0])

    def close(self) -> None:
        """Close both."""
        for connection in (self._pop, self._claim):
            connection.close()
        with suppress(RedisError, OSError, KombuError):
            self._broker.release()

    def _ask(self, connection: Wire, *command: Any) -> Any:
        connection.send(pack(*command))
        return _checked(connection.receive_reply())


def _checked(reply: Any) -> Any:
    if isinstance(reply, ResponseError):
        raise reply
    return reply
