"""Key watch: one connection on which the server reports messages under any of many queue keys."""

from collections.abc import Sequence
from time import monotonic
from typing import Any

from kombu.log import get_logger
from redis.exceptions import ResponseError

from pattern_storage.tasks.transport.polled_connection import REFUSED, PolledConnection
from pattern_storage.tasks.transport.queue_keys import QueueKey
from pattern_storage.tasks.transport.refusal import Refusal

logger = get_logger(__name__)

#: Seconds after which EXISTS is sent again, though the server has reported no change: one that is gone reports nothing.
CHECK_INTERVAL = 10.0


class KeyWatch(PolledConnection):
    """A connection with CLIENT TRACKING, which takes no message, so that there is none to put back.

    The server notes which keys the connection has asked for, and reports the next change of each once.
    """

    def __init__(self, channel: Any, refusal: Refusal) -> None:
        super().__init__(channel, "EXISTS", self.end, refusal)
        self._checked_at = 0.0
        self._watched: frozenset[str] = frozenset()
        # The socket of the connection that the server has noted them for.
        self._socket: Any = None
        #: False once the server has refused to track, or cannot.
        self.is_usable = True
        #: Set when a key has changed.
        self.changed = False

    def on_connected(self) -> None:
        """Turn tracking on."""
        try:
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
        if self.is_usable and keys and not is_watching and not self.pending and now >= self.retry_at:
            self._watched, self._socket = keys, None
            self.send("EXISTS", *keys)
            if not self.is_usable:
                self.disconnect()
        return self.is_usable

    def end(self) -> bool:
        """Read how many of the keys have messages. Returns False: it delivers none."""
        count = self.read()
        if count is not REFUSED:
            self._socket, self._checked_at = self.connection._sock, monotonic()
            # A message may have come after the claim that found none, or while this was read.
            self.changed |= bool(count)
            self._read_reports()
        return False

    def on_readable(self) -> bool:
        """Read a reply, or a report of the server. Returns False: neither delivers a message."""
        if self.pending or not self.readable():
            return super().on_readable()
        self._read_reports(is_readable=True)
        return False

    def _read_reports(self, is_readable: bool = False) -> None:
        """Read the server's reports, also those that redis-py has read ahead, which no poller reports."""
        try:
            while is_readable or self.connection.can_read(timeout=0):
                self.connection.read_response(push_request=True)
                self.changed, self._socket, is_readable = True, None, False
        except self.channel.connection_errors:
            # The server has closed the idle connection; the next EXISTS opens another.
            self.disconnect()
