"""Kept connections of the synchronous publisher, which carry packed commands whose replies are one line each.

redis-py opens them: URL, TLS, login and timeouts are its own. From then on its packing, parsing, locks and retries,
twice as long as the round trip itself, are left out. Reads and writes are the caller's thread's, under gevent its
greenlet's.
"""

import os
import time
from collections import deque
from typing import Any, Generic, TypeVar

import redis

#: Seconds after which an unused connection is not trusted: something on the way may have dropped it in silence.
MAX_IDLE = 60.0
RECEIVED_AT_ONCE = 65_536


def timed(options: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Return redis-py's options of a connection with another timeout, in seconds."""
    return options | {name: timeout for name in ("socket_connect_timeout", "socket_timeout") if name in options}


class Wire:
    """One connection that is logged in."""

    #: The version of the protocol. In the older one nothing comes that was not asked for.
    protocol = 2

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        connection.connect()
        # redis-py has no public way to it; an SSL socket has the same methods.
        self._socket = connection._sock
        self._received = b""
        self._used: float | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was ever answered on it."""
        return self._used is None

    @property
    def is_stale(self) -> bool:
        """Whether it was unused for too long."""
        return self._used is not None and time.monotonic() - self._used > MAX_IDLE

    def set_timeout(self, seconds: float) -> None:
        """Let each call take so long."""
        if seconds != self._timeout:
            self._timeout = seconds
            self._socket.settimeout(seconds)

    def send(self, packed: bytes) -> None:
        """Send packed commands. Raises OSError."""
        self._socket.sendall(packed)

    def receive(self, count: int) -> list[bytes]:
        """Return so many replies, each a line without its end. Raises OSError."""
        received = self._received
        while received.count(b"\r\n") < count:
            received += self.receive_some(RECEIVED_AT_ONCE)
        *replies, self._received = received.split(b"\r\n", count)
        return replies

    def receive_some(self, most: int) -> bytes:
        """Return what has come, waiting for it if need be. Raises OSError."""
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
    """Connections to one server, for any number of threads; a forked child opens its own."""

    def __init__(self, client: "redis.Redis", kind: type[Kind]) -> None:
        self._client = client
        self._kind = kind
        self._idle: deque[Kind] = deque()
        self._process_id = os.getpid()

    def take(self, timeout: float) -> Kind:
        """Return an idle connection, or a new one, for calls that take up to `timeout` seconds.

        Raises redis.exceptions.RedisError if none can be opened in that time.

        Give it back only when all replies were read: others would be taken for those of the next caller.
        """
        if self._process_id != os.getpid():
            # The parent's: it goes on using them.
            self._process_id, self._idle = os.getpid(), deque()
        while self._idle:
            wire = self._idle.pop()
            if not wire.is_stale:
                wire.set_timeout(timeout)
                return wire
            wire.close()
        return self.open(timeout)

    def open(self, timeout: float) -> Kind:
        """Return a new connection. Raises redis.exceptions.RedisError."""
        # Not of the pool, which would count it as its own.
        pool = self._client.connection_pool
        options = timed(pool.connection_kwargs, timeout) | {"protocol": self._kind.protocol}
        return self._kind(pool.connection_class(**options), timeout)

    def give_back(self, wire: Kind) -> None:
        """Keep a connection for the next caller."""
        self._idle.append(wire)

    def close(self) -> None:
        """Close the connections that are not in use, and those to the Sentinels, which said where they lead."""
        while self._idle:
            self._idle.pop().close()
        self._client.close()
