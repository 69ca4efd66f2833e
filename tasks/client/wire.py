"""Persistent connections of the synchronous publisher, for packed commands whose replies are one line each.

redis-py opens them, with its URL, TLS, login and timeouts. From then on its packing, parsing, locks and retries, which
take twice as long as the round trip itself, are not used. The caller's thread, or greenlet, reads and writes.
"""

import os
import time
from collections import deque
from typing import Any, Generic, TypeVar

import redis

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
        self._used: float | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it has not received a reply yet."""
        return self._used is None

    @property
    def is_stale(self) -> bool:
        """Whether it was unused for longer than MAX_IDLE."""
        return self._used is not None and time.monotonic() - self._used > MAX_IDLE

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

    def take(self, timeout: float) -> Kind:
        """Return an idle connection, or a new one, whose reads and writes time out after `timeout` seconds.

        Raises redis.exceptions.RedisError if none can be opened in that time.

        Give it back only when all replies have been read: the next caller would take the others for its own.
        """
        if self._process_id != os.getpid():
            # The parent process goes on using its connections.
            self._idle, self._process_id = deque(), os.getpid()
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
        return self._kind(pool.connection_class(**options), timeout)

    def give_back(self, wire: Kind) -> None:
        """Keep a connection for the next caller."""
        self._idle.append(wire)

    def close(self) -> None:
        """Close the connections that are not in use, and those to the Sentinels."""
        while self._idle:
            self._idle.pop().close()
        self._client.close()
