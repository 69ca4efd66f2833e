"""Pub/sub connections of the synchronous client: a result is read and waited for on the same connection."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pattern_storage.tasks.resp import pack
from pattern_storage.tasks.wire import Wire, Wires

#: Channels in one SUBSCRIBE: the server does nothing else meanwhile.
CHANNELS_AT_ONCE = 1_000


class Subscription(Wire):
    """A connection with the channels that it is subscribed to now.

    A connection that was lost is opened once more, and subscribed again.
    """

    # In RESP 3 a subscribed connection accepts other commands too.
    protocol = 3

    def __init__(self, connection: Any, timeout: float) -> None:
        super().__init__(connection, timeout)
        self._command_timeout = timeout
        self._channels: tuple[str, ...] = ()
        #: Commands that are sent together with the next one.
        self._unsent = b""
        #: Confirmations of SUBSCRIBE and UNSUBSCRIBE that have not been read yet.
        self._unread = 0
        self._messages: deque[tuple[str, bytes]] = deque()

    def begin(self, channels: tuple[str, ...], *, at_once: bool) -> None:
        """Subscribe to channels, at once or with the next command. Raises RedisError."""
        self._channels = channels
        self._messages.clear()
        self._add("SUBSCRIBE")
        if at_once:
            try:
                self._flush()
            except OSError:
                self._reconnect()

    def end(self) -> None:
        """Unsubscribe: at once from many channels, and with the next command from one. Raises OSError."""
        self._add("UNSUBSCRIBE")
        if len(self._channels) != 1:
            self._flush()

    def get(self, key: str) -> bytes | None:
        """Return the value of a key, read after the subscription has begun. Raises RedisError."""
        command = pack("GET", key)
        try:
            try:
                return self._get(command)
            except ConnectionError:
                self._reconnect()
                return self._get(command)
        except TimeoutError as error:
            raise RedisTimeoutError("no answer in time") from error
        except OSError as error:
            raise RedisConnectionError(str(error)) from error

    def receive_message(self, timeout: float) -> tuple[str, bytes] | None:
        """Return the next message with its channel, None if none comes within `timeout` seconds. Raises RedisError."""
        deadline, is_lost = time.monotonic() + timeout, False
        while not self._messages:
            if (remaining := deadline - time.monotonic()) <= 0:
                return None
            try:
                self._flush()
                if (reply := self._next_within(remaining)) is None:
                    return None
                self._note(reply)
            except OSError as error:
                if is_lost:
                    raise RedisConnectionError(str(error)) from error
                is_lost = True
                self._reconnect()
        return self._messages.popleft()

    def _get(self, command: bytes) -> bytes | None:
        self._flush(command)
        while isinstance(reply := self.receive_reply(), list):
            self._note(reply)
        if isinstance(reply, ResponseError):
            raise reply
        return None if reply is None else bytes(reply)

    def _add(self, command: str) -> None:
        for start in range(0, len(self._channels), CHANNELS_AT_ONCE):
            self._unsent += pack(command, *self._channels[start : start + CHANNELS_AT_ONCE])
        self._unread += len(self._channels)

    def _flush(self, command: bytes = b"") -> None:
        if command or self._unsent:
            self.set_timeout(self._command_timeout)
            sending, self._unsent = self._unsent + command, b""
            self.send(sending)

    def _reconnect(self) -> None:
        """Raises RedisError."""
        self.reopen()
        self._unsent, self._unread, self._timeout = b"", 0, self._command_timeout
        self._buffer.clear()
        self._add("SUBSCRIBE")

    def _next_within(self, seconds: float) -> Any:
        self.set_timeout(seconds)
        try:
            return self.receive_reply()
        except TimeoutError:
            return None

    def _note(self, reply: Any) -> None:
        """Count a confirmation, or keep a message. Raises ResponseError if subscribing was refused."""
        if isinstance(reply, ResponseError):
            raise reply
        kind, *rest = reply
        if kind != b"message":
            self._unread -= kind in (b"subscribe", b"unsubscribe")
        elif self._unread <= 0:
            self._messages.append((rest[0].decode(), rest[1]))
        # Until all confirmations are read, a message belongs to an earlier subscription, perhaps to the same channel.


class Subscriptions(Wires[Subscription]):
    """Reusable subscriptions for any number of threads; a forked child opens its own."""

    def __init__(self, client: "redis.Redis", timeout: float) -> None:
        super().__init__(client, Subscription)
        self._timeout = timeout

    @contextmanager
    def subscribe(self, *channels: str, at_once: bool = True) -> Iterator[Subscription]:
        """Subscribe to channels, at once or with the next command. Raises RedisError."""
        subscription, reusable = self.take(self._timeout), False
        try:
            subscription.begin(channels, at_once=at_once)
            yield subscription
            reusable = True
        except GeneratorExit:
            # The generator that waits on it was closed between two messages.
            reusable = True
            raise
        finally:
            if reusable:
                self._keep(subscription)
            else:
                # An interrupted read may have left half a reply.
                subscription.close()

    def _keep(self, subscription: Subscription) -> None:
        try:
            subscription.end()
        except OSError:
            subscription.close()
        else:
            self.give_back(subscription)
