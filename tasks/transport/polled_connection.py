"""Redis connections that are asked now and read when the poller says that the answer is there."""

from collections.abc import Callable
from time import monotonic
from typing import Any

from kombu.utils.eventio import READ, poll
from redis.exceptions import ConnectionError, ReadOnlyError, ResponseError  # noqa: A004


class Line:
    """One connection of a channel, known to kombu's poller under a name of its own.

    Args:
        channel: whose connection it is.
        name: what the poller calls it.
        on_answer: called when the answer can be read; returns whether that delivered a message.
    """

    def __init__(self, channel: Any, name: str, on_answer: Callable[[], bool]) -> None:
        self.channel = channel
        self.name = name
        self._on_answer = on_answer
        # kombu's poller fetches the connection, and keeps it here.
        self.connection: Any = None
        #: When it was asked what it has not answered yet, in seconds of the monotonic clock.
        self.asked_at: float | None = None

    @property
    def connection_pool(self) -> Any:
        """Where kombu's poller gets the connection."""
        return self.channel.async_pool

    @property
    def busy(self) -> bool:
        """Whether an answer is to come."""
        return self.asked_at is not None

    def ask(self, *command: Any) -> None:
        """Send one command. Raises a connection error if there is no server."""
        cycle = self.channel.connection.cycle
        if self.connection is not None and self.connection._sock is not None:
            # Connects again if nobody is there, which the poller has to learn; asking would do the same, too late.
            self.connection.check_health()
        if not cycle._client_registered(self.channel, self, self.name):
            self.channel.handlers[self.name] = self.on_readable
            cycle._register(self.channel, self, self.name)
            self.on_connected()
        if getattr(self.connection, "_re_auth_token", None) is not None:
            # Credentials that are renewed (Entra ID, IAM) reach a connection only while it has no command out.
            self.connection.re_auth()
        self.connection.send_command(*command)
        self.asked_at = monotonic()

    def answer(self) -> Any:
        """Return the answer, waiting for it if need be. Raises what Redis answers, or a connection error."""
        try:
            return self.connection.read_response()
        except self.channel.connection_errors:
            self.connection.disconnect()
            raise
        except ResponseError as error:
            if not isinstance(error, ReadOnlyError) and not str(error).startswith("UNBLOCKED"):
                raise
            # A failover has made the server a replica: whoever connects again finds the new primary.
            self.connection.disconnect()
            raise ConnectionError("the Redis server has become a replica") from error
        finally:
            self.asked_at = None

    def readable(self, timeout: float = 0.0) -> bool:
        """Whether there is something to read, or an end to notice, within `timeout` seconds. Reads nothing.

        redis-py's `can_read` takes what it finds into a buffer of its own, and then no poller reports it.
        """
        if self.connection is None or self.connection._sock is None:
            return False
        poller = poll()
        try:
            poller.register(self.connection._sock, READ)
            return bool(poller.poll(timeout))
        finally:
            poller.close()

    def on_readable(self) -> bool:
        """Do what a report of the poller asks for. Returns whether that delivered a message."""
        if not self.readable():
            # An earlier report of the same poll has had it read already: whoever stands down reads every wait.
            return False
        if self.busy:
            return self._on_answer()
        # Nothing is expected: the server has closed the idle connection.
        self.hang_up()
        return False

    def on_connected(self) -> None:
        """Do what a new connection needs before its first command."""

    def hang_up(self) -> None:
        """End the connection; the next question opens another."""
        self.asked_at = None
        if self.connection is not None:
            self.connection.disconnect()

    def hang_up_if_dead(self, patience: float) -> bool:
        """End the connection if its answer is `patience` seconds late: the other end has gone without a word."""
        if self.asked_at is None or monotonic() - self.asked_at < patience or self.readable():
            return False
        self.hang_up()
        return True


def polled(connection_class: Any, channel: Any) -> Any:
    """Return this class with connections that leave the channel's poller before they close, whoever closes them.

    The kernel forgets a closed socket when the last copy of it is closed, and a process that was forked meanwhile may
    have one. Until then it reports that socket's end, under a number that another connection may have by then.
    """

    class Polled(connection_class):  # type: ignore[misc]  # redis-py's, chosen by kombu
        def disconnect(self, *arguments: Any, **options: Any) -> None:
            channel.leave_poller(self)
            super().disconnect(*arguments, **options)

    return Polled
