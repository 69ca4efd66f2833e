"""Persistent connections for packed commands, where redis-py takes twice as long as the round trip itself.

redis-py opens them, with its URL, TLS, login and timeouts. From then on its pool, packing, parsing, locks and retries
are not used. The caller's thread, or greenlet, reads and writes.
"""

import os
import time
import weakref
from collections import deque
from typing import Any, Generic, TypeVar

import redis

from pattern_storage.tasks.resp import Incomplete, read

#: Seconds after which an unused connection is closed: a firewall may have dropped it without a sign.
MAX_IDLE = 60.0
RECEIVED_AT_ONCE = 65_536


def timed(options: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Return redis-py's options of a connection, with this timeout in seconds."""
    return options | {name: timeout for name in ("socket_connect_timeout", "socket_timeout") if name in options}


class Wire:
    """One connection, logged in."""

    #: Version of the protocol. In RESP 2 a server sends nothing but replies.
    protocol = 2

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        connection.connect()
        # redis-py has no public access to the socket; an SSL socket has the same methods.
        self._socket = connection._sock
        self._received = b""
        self._buffer = bytearray()
        self._used: float | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it has not received a reply yet."""
        return self._used is None

    @property
    def is_stale(self) -> bool:
        """Whether it was unused for longer than MAX_IDLE."""
        return self._used is not None and time.monotonic() - self._used > MAX_IDLE

    def fileno(self) -> int:
        """Return the file descriptor on which a poll finds what can be received."""
        return int(self._socket.fileno())

    def set_timeout(self, seconds: float) -> None:
        """Set the timeout of each read and write."""
        if seconds != self._timeout:
            self._timeout = seconds
            self._socket.settimeout(seconds)

    def send(self, packed: bytes) -> None:
        """Send packed commands. Raises OSError."""
        self._socket.sendall(packed)

    def receive(self, count: int) -> list[bytes]:
        """Return this number of replies, each a line without its end. Raises OSError."""
        received = self._received
        while received.count(b"\r\n") < count:
            received += self.receive_some(RECEIVED_AT_ONCE)
        *replies, self._received = received.split(b"\r\n", count)
        return replies

    def receive_reply(self) -> Any:
        """Return one reply of any kind, an error as a ResponseError. Raises OSError.

        Not to be mixed with `receive`, which has what it received too much for itself.
        """
        while True:
            try:
                reply, end = read(self._buffer)
            except Incomplete:
                self._buffer += self.receive_some(RECEIVED_AT_ONCE)
            else:
                del self._buffer[:end]
                return reply

    def receive_some(self, most: int) -> bytes:
        """Wait for data and return it. Raises OSError."""
        received: bytes = self._socket.recv(most)
        if not received:
            raise ConnectionResetError("the server closed the connection")
        self._used = time.monotonic()
        return received

    def reopen(self) -> None:
        """Connect again. Raises redis.exceptions.RedisError."""
        self._connection.disconnect()
        self._connection.connect()
        self._socket = self._connection._sock

    def close(self) -> None:
        """Close it."""
        self._connection.disconnect()


Kind = TypeVar("Kind", bound=Wire)


class Wires(Generic[Kind]):
    """Pool of connections to one server, for any number of threads; a forked child opens its own."""

    def __init__(self, client: "redis.Redis", kind: type[Kind]) -> None:
        self._client = client
        self._kind = kind
        self._idle: deque[Kind] = deque()
        self._process_id = os.getpid()
        # Before the garbage collector finds open sockets: not every owner is told when to close.
        weakref.finalize(self, _close_all, self._idle).atexit = False

    def take(self, timeout: float) -> Kind:
        """Return an idle connection, or a new one, whose reads and writes time out after `timeout` seconds.

        Raises redis.exceptions.RedisError if none can be opened in that time.

        Give it back only when all replies have been read: the next caller would take the others for its own.
        """
        if self._process_id != os.getpid():
            # The parent process goes on using its connections.
            self._idle.clear()
            self._process_id = os.getpid()
        while self._idle:
            wire = self._idle.pop()
            if not wire.is_stale:
                wire.set_timeout(timeout)
                return wire
            wire.close()
        return self.open(timeout)

    def open(self, timeout: float) -> Kind:
        """Return a new connection. Raises redis.exceptions.RedisError."""
        # Built without the pool, which would count it as its own.
        pool = self._client.connection_pool
        options = timed(pool.connection_kwargs, timeout) | {"protocol": self._kind.protocol}
        # Announcements of a managed service's maintenance, for redis-py's own pool, and only in RESP 3.
        options = {name: value for name, value in options.items() if not name.startswith("maint_notifications")}
        return self._kind(pool.connection_class(**options), timeout)

    def ask(self, packed: bytes, count: int, timeout: float) -> list[Any]:
        """Send packed commands and return their replies, an error as a ResponseError.

        They are sent again if a connection was lost, so they must do no harm the second time. Raises OSError or
        redis.exceptions.RedisError.
        """
        wire = self.take(timeout)
        reused = not wire.is_fresh
        try:
            return self._ask(wire, packed, count)
        except OSError:
            if not reused:
                raise
            return self._ask(self.open(timeout), packed, count)

    def _ask(self, wire: Kind, packed: bytes, count: int) -> list[Any]:
        try:
            wire.send(packed)
            replies = [wire.receive_reply() for _ in range(count)]
        except BaseException:
            wire.close()
            raise
        self.give_back(wire)
        return replies

    def give_back(self, wire: Kind) -> None:
        """Keep a connection for the next caller."""
        self._idle.append(wire)

    def close(self) -> None:
        """Close the connections that are not in use, and those to the Sentinels."""
        _close_all(self._idle)
        self._client.close()


def _close_all(wires: deque[Any]) -> None:
    while wires:
        wires.pop().close()
