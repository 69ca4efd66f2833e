"""kombu's poller, for channels that have several connections."""

from contextlib import suppress
from queue import Empty
from time import monotonic
from typing import Any

from kombu.log import get_logger

from pattern_storage.tasks.transport.kombu_parts import redis

logger = get_logger(__name__)

#: Seconds that `get` sleeps at most before it looks after restores and prefetch limits.
IDLE_CHECK = 1.0


class Poller(redis.MultiChannelPoller):  # type: ignore[misc]  # kombu's is untyped
    """kombu's poller, except that each channel sends its commands before each poll."""

    #: The event loop, once there is one.
    hub: Any = None

    def on_poll_start(self) -> bool:
        """Deliver what is claimed and send commands; waits for no reply. Returns whether a message was delivered."""
        delivered = False
        for channel in list(self._channels):
            delivered |= channel.claims.deliver()
            channel.claims.work()
            if channel.active_fanout_queues:
                self._register_LISTEN(channel)
        return delivered

    @property
    def fds(self) -> dict[int, Any]:
        """The sockets that the event loop does not poll yet: registering one again costs a call of the kernel."""
        polled = () if self.hub is None else self.hub.readers
        return {fd: found for fd, found in self._fd_to_chan.items() if fd not in polled}

    def on_readable(self, fileno: int) -> Any:
        """Read one reply. Returns whether a message was delivered."""
        channel, name = self._fd_to_chan.get(fileno, (None, None))
        if channel is None:
            return None
        if name == "LISTEN":
            return super().on_readable(fileno)
        return channel.handlers[name]()

    def handle_event(self, fileno: int, event: int) -> Any:
        """Handle a report of the poller. Returns a true value if `get` is done."""
        _, name = self._fd_to_chan.get(fileno, (None, None))
        # An error of a socket shows when it is read, too.
        return super().handle_event(fileno, event) if name == "LISTEN" else self.on_readable(fileno)

    def unregister(self, sock: Any) -> None:
        """Stop polling a socket that is about to be closed."""
        for key, known in list(self._chan_to_sock.items()):
            if known is sock:
                del self._chan_to_sock[key]
        self._fd_to_chan.pop(sock.fileno(), None)
        if self.hub is not None:
            self.hub.remove(sock.fileno())
        else:
            # The socket may never have been polled.
            with suppress(KeyError, OSError):
                self.poller.unregister(sock.fileno())

    def get(self, callback: Any, timeout: float | None = None) -> None:
        """Deliver one message or broadcast, without an event loop. Raises Empty after `timeout` seconds.

        Leaves nothing claimed that is not delivered, because the next call may never come.
        """
        deadline = None if timeout is None else monotonic() + timeout
        self._in_protected_read = True
        try:
            self.maybe_refresh_binding_expiry()
            while not self._step(IDLE_CHECK if deadline is None else min(IDLE_CHECK, max(deadline - monotonic(), 0))):
                if deadline is not None and monotonic() >= deadline:
                    raise Empty
        finally:
            self._in_protected_read = False
            for channel in list(self._channels):
                channel.claims.quiesce()
            while self.after_read:
                self.after_read.pop()()

    def _step(self, timeout: float) -> bool:
        if self.on_poll_start():
            return True
        events = self.poller.poll(timeout)
        if not events:
            self.maybe_check_brpop_health()
            self.maybe_restore_messages()
        return any(self.handle_event(fileno, event) for fileno, event in events or ())

    def maybe_restore_messages(self) -> None:
        """Put back what other consumers left behind, claimed or unacked."""
        for channel in list(self._channels):
            try:
                channel.claims.sweep_if_due()
            except channel.connection_errors:
                # As kombu does below: the next poll notices it, and reconnects.
                logger.debug("no sweep: the connection is broken", exc_info=True)
                return
        super().maybe_restore_messages()

    def maybe_check_brpop_health(self) -> None:
        """Close connections whose reply is so late that the server must have vanished."""
        for channel in list(self._channels):
            # A living server replies to a blocking pop in time, and to a claim at once.
            if channel.brpop_timeout and channel.health_check_interval:
                channel.claims.drop_dead_connections(channel.brpop_timeout + channel.health_check_interval)
