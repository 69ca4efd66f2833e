"""Kept subscriptions of the synchronous client: redis-py closes a connection with each `PubSub`, and opens another."""

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.exceptions import RedisError

#: Channels in one SUBSCRIBE: the server does nothing else meanwhile.
CHANNELS_AT_ONCE = 1_000


class Subscription:
    """A connection, and the channels that it is subscribed to for the time being."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub
        #: Confirmations that the server has sent, or will send, and nobody has read.
        self._unread = 0
        self._channels: tuple[str, ...] = ()

    def begin(self, channels: tuple[str, ...]) -> None:
        """Subscribe to channels. Raises RedisError."""
        self._channels = channels
        for start in range(0, len(channels), CHANNELS_AT_ONCE):
            some = channels[start : start + CHANNELS_AT_ONCE]
            self._unread += len(some)
            self._pubsub.subscribe(*some)

    def end(self) -> None:
        """Unsubscribe from them. Raises RedisError."""
        self._unread += len(self._channels)
        if self._channels:
            self._pubsub.unsubscribe(*self._channels)

    def close(self) -> None:
        """Close the connection."""
        self._pubsub.close()

    def receive(self, timeout: float) -> bytes | None:
        """Return the next message, None if there is none within `timeout` seconds."""
        received = self.receive_from(timeout)
        return None if received is None else received[1]

    def receive_from(self, timeout: float) -> tuple[str, bytes] | None:
        """Return the next message with its channel, None if there is none within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (remaining := deadline - time.monotonic()) > 0:
            received = self._pubsub.get_message(timeout=remaining)
            if not received:
                continue
            if received["type"] != "message":
                self._unread -= 1
            elif self._unread <= 0:
                return received["channel"].decode(), bytes(received["data"])
            # Else it is of an earlier subscription, perhaps to the same channel: that result is not this one's.
        return None


class Subscriptions:
    """Connections that were subscribed and can be again, for any number of threads; a forked child has its own."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self._idle: deque[Subscription] = deque()
        self._process_id = os.getpid()

    @contextmanager
    def subscribe(self, *channels: str) -> Iterator[Subscription]:
        """Subscribe to channels. Raises RedisError."""
        subscription, reusable = self._take(), False
        try:
            subscription.begin(channels)
            yield subscription
            reusable = True
        except GeneratorExit:
            # A generator that waited here has what it waited for.
            reusable = True
            raise
        finally:
            if reusable:
                self._keep(subscription)
            else:
                # An interrupted read may have left half an answer.
                subscription.close()

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def _keep(self, subscription: Subscription) -> None:
        try:
            subscription.end()
        except RedisError:
            subscription.close()
        else:
            self._idle.append(subscription)

    def _take(self) -> Subscription:
        if self._process_id != os.getpid():
            # The parent's: it goes on using them.
            self._process_id, self._idle = os.getpid(), deque()
        try:
            return self._idle.pop()
        except IndexError:
            return Subscription(self._client.pubsub())  # type: ignore[no-untyped-call]
