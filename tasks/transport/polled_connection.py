"""Redis connections that are written now and read when the poller reports the reply."""

import select
from collections.abc import Callable
from time import monotonic
from typing import Any

from pattern_storage.tasks.redis_errors import ServerRefuses
from pattern_storage.tasks.resp import Argument, pack
from pattern_storage.tasks.transport.refusal import RETRY_DELAY, Refusal

#: In place of a reply: the server refuses the command for now.
REFUSED = object()


class PolledConnection:
    """One connection of a channel, which kombu's poller knows under a name of its own.

    Args:
        channel: the channel of the connection.
        name: the name under which the poller knows it.
        on_reply: called when the reply can be read; returns whether that delivered a message.
        refusal: notes whether the server refuses the commands of this connection.
    """

    def __init__(self, channel: Any, name: str, on_reply: Callable[[], bool], refusal: Refusal) -> None:
        self.channel = channel
        self.name = name
        self._on_reply = on_reply
        self._refusal = refusal
        #: When a command that was refused may be sent again, in seconds of the monotonic clock.
        self.retry_at = 0.0
        # kombu's poller takes the connection out of the pool, and keeps it here.
        self.connection: Any = None
        #: When the command was sent whose reply has not been read yet, in seconds of the monotonic clock.
        self.sent_at: float | None = None
        # The poll object of `readable`, and the socket that is registered with it.
        self._poll: Any = None
        self._polled: Any = None

    @property
    def connection_pool(self) -> Any:
        """The pool that kombu's poller takes the connection from."""
        return self.channel.async_pool

    @property
    def pending(self) -> bool:
        """Whether a reply is to come."""
        return self.sent_at is not None

    def send(self, *command: Argument) -> None:
        """Send one command. Raises a connection error if there is no server."""
        self.send_packed(pack(*command))

    def send_packed(self, command: bytes) -> None:
        """Send one command that is packed already. Raises a connection error if there is no server."""
        cycle = self.channel.connection.cycle
        if self.connection is not None and self.connection._sock is not None:
            # Connects again if the server has gone, which the poller has to learn; sending would do the same, too late.
            self.connection.check_health()
        if not cycle._client_registered(self.channel, self, self.name):
            self.channel.handlers[self.name] = self.on_readable
            cycle._register(self.channel, self, self.name)
            self.on_connected()
        if getattr(self.connection, "_re_auth_token", None) is not None:
            # Credentials that are renewed (Entra ID, IAM) reach a connection only while it has no command out.
            self.connection.re_auth()
        self.connection.send_packed_command([command], check_health=False)
        self.sent_at = monotonic()

    def read(self) -> Any:
        """Return the reply, waiting for it if need be; REFUSED if the server refuses the command for now.

        Raises ResponseError or a connection error.
        """
        sent_at = self.sent_at
        try:
            reply = self.connection.read_response()
        except ServerRefuses as error:
            if error.has_moved:
                # A failover has made the server a replica: connecting again finds the new primary.
                self.connection.disconnect()
                raise
            self._refusal.begin(error)
            self.retry_at = monotonic() + RETRY_DELAY
            return REFUSED
        except self.channel.connection_errors:
            self.connection.disconnect()
            raise
        finally:
            self.sent_at = None
        self._refusal.end(sent_at)
        return reply

    def readable(self, timeout: float = 0.0) -> bool:
        """Whether a reply or the end of the connection can be read within `timeout` seconds. Reads nothing.

        redis-py's `can_read` takes what it finds into a buffer of its own, and then no poller reports it.
        """
        sock = None if self.connection is None else self.connection._sock
        if sock is None:
            return False
        if sock is not self._polled:
            # Kept, because this is asked for each message. Unlike kombu's epoll it needs no file descriptor of its own.
            self._polled, self._poll = sock, select.poll()
            self._poll.register(sock, select.POLLIN)
        return bool(self._poll.poll(1000 * timeout))

    def on_readable(self) -> bool:
        """React to a report of the poller. Returns whether that delivered a message."""
        if not self.readable():
            # An earlier report of the same poll has had it read already: `stop_waiting` reads every blocking pop.
            return False
        if self.pending:
            return self._on_reply()
        # Nothing is expected: the server has closed the idle connection.
        self.disconnect()
        return False

    def on_connected(self) -> None:
        """Prepare a new connection for its first command."""

    def disconnect(self) -> None:
        """Close the connection; the next command opens another."""
        self.sent_at = None
        if self.connection is not None:
            self.connection.disconnect()

    def disconnect_if_dead(self, patience: float) -> bool:
        """Close the connection if its reply is `patience` seconds late: the server has vanished without closing it."""
        if self.sent_at is None or monotonic() - self.sent_at < patience or self.readable():
            return False
        self.disconnect()
        return True


def polled_class(connection_class: Any, channel: Any) -> Any:
    """Return a subclass whose connections leave the channel's poller before they close, whatever closes them.

    The kernel forgets a closed socket when its last copy is closed, and a process that was forked meanwhile may have
    one. Until then it reports the end of that socket, under a number that another connection may have by then.
    """

    class Polled(connection_class):  # type: ignore[misc]  # redis-py's, chosen by kombu
        def disconnect(self, *arguments: Any, **options: Any) -> None:
            channel.leave_poller(self)
            super().disconnect(*arguments, **options)

    return Polled
