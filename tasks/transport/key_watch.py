"""Key watch: one connection on which the server tells of a message under any of many queue keys."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from kombu.log import get_logger
from redis.exceptions import ResponseError

from pattern_storage.tasks.redis_errors import ServerRefuses
from pattern_storage.tasks.transport.blocking_pop import RETRY_DELAY, Refusal
from pattern_storage.tasks.transport.polled_connection import PolledConnection
from pattern_storage.tasks.transport.queue_keys import QueueKey

logger = get_logger(__name__)

#: Seconds after which the server is asked again, though it has told of nothing: a server that is gone says nothing.
CHECK_INTERVAL = 10.0


class KeyWatch(PolledConnection):
    """Watches keys with CLIENT TRACKING, which takes nothing, so that there is nothing to put back.

    The server notes which keys a connection has asked for, and tells it once of the next change.
    """

    def __init__(self, channel: Any, refusal: Refusal) -> None:
        super().__init__(channel, "EXISTS", self.end)
        self._refusal = refusal
        self._retry_at = self._checked_at = 0.0
        self._watched: frozenset[str] = frozenset()
        # The socket on which the server knows them.
        self._socket: Any = None
        #: False once the server has refused to track, or cannot.
        self.is_usable = True
        #: Set when something has changed.
        self.changed = False

    def on_connected(self) -> None:
        """Turn tracking on."""
        try:
            # The older protocol has no messages that nobody asked for.
            if str(self.connection.protocol) != "3":
                raise ResponseError("the connection speaks RESP2")
            self.connection.send_command("CLIENT", "TRACKING", "ON")
            self.connection.read_response()
        except ResponseError as error:
            logger.info("a connection for each queue and priority, since keys cannot be watched: %s", error)
            self.is_usable = False

    def begin(self, queue_keys: Sequence[QueueKey]) -> bool:
        """Watch these keys, unless they are watched. Returns False if the server cannot."""
        keys, now = frozenset(queue_key.key for queue_key in queue_keys), monotonic()
        is_watching = (
            self._socket is not None
            and self._socket is self.connection._sock
            and keys <= self._watched
            and now < self._checked_at + CHECK_INTERVAL
        )
        if self.is_usable and keys and not is_watching and not self.pending and now >= self._retry_at:
            self._watched, self._socket = keys, None
            self.send("EXISTS", *keys)
            if not self.is_usable:
                self.disconnect()
        return self.is_usable

    def end(self) -> bool:
        """Read how many of the keys have messages. Returns False: it delivers none."""
        sent_at = self.sent_at
        try:
            found = self.read()
        except ServerRefuses as error:
            if error.has_moved:
                raise
            self._refusal.begin(error)
            self._retry_at = monotonic() + RETRY_DELAY
            return False
        self._refusal.end(sent_at)
        self._socket, self._checked_at = self.connection._sock, monotonic()
        # One may have come since the claim that found none, or while this was read.
        self.changed |= bool(found)
        self._read_told()
        return False

    def on_readable(self) -> bool:
        """Read a reply, or what the server tells. Returns False: neither delivers a message."""
        if self.pending or not self.readable():
            return super().on_readable()
        self._read_told(self.connection.read_response)
        return False

    def _read_told(self, *first: Any) -> None:
        """Read what the server has told, also what redis-py has read ahead, of which no poller reports."""
        try:
            for read in first:
                read(push_request=True)
                self.changed, self._socket = True, None
            while self.connection.can_read(timeout=0):
                self.connection.read_response(push_request=True)
                self.changed, self._socket = True, None
        except self.channel.connection_errors:
            # The server has closed the idle connection; the next question opens another.
            self.disconnect()
