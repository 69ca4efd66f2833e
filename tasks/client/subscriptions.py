"""Kept subscriptions of the synchronous client: redis-py closes a connection with each `PubSub`, and opens another."""

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.exceptions import RedisError


class Subscription:
    """One channel that a connection is subscribed to."""

    def __init__(self, pubsub: Any, channel: str) -> None:
        self._pubsub = pubsub
        self._channel = channel.encode()

    def receive(self, timeout: float) -> bytes | None:
        """Return the next message, None if there is none within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (remaining := deadline - time.monotonic()) > 0:
            received = self._pubsub.get_message(timeout=remaining)
            # Of an earlier subscription there may be left what was published last, and the answer to its end.
            if received and received["type"] == "message" and received["channel"] == self._channel:
                return bytes(received["data"])
        return None


class Subscriptions:
    """Connections that were subscribed and can be again, for any number of threads; a forked child has its own."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self._idle: deque[Any] = deque()
        self._process_id = os.getpid()

    @contextmanager
    def subscribe(self, channel: str) -> Iterator[Subscription]:
        """Subscribe to a channel. Raises RedisError."""
        pubsub, reusable = self._take(), False
        try:
            pubsub.subscribe(channel)
            yield Subscription(pubsub, channel)
            reusable = True
        except GeneratorExit:
            # A generator that waited here has what it waited for.
            reusable = True
            raise
        finally:
            if reusable:
                self._keep(pubsub, channel)
            else:
                # An interrupted read may have left half an answer.
                pubsub.close()

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def _keep(self, pubsub: Any, channel: str) -> None:
        try:
            pubsub.unsubscribe(channel)
        except RedisError:
            pubsub.close()
        else:
            self._idle.append(pubsub)

    def _take(self) -> Any:
        if self._process_id != os.getpid():
            # The parent's: it goes on using them.
            self._process_id, self._idle = os.getpid(), deque()
        try:
            return self._idle.pop()
        except IndexError:
            return self._client.pubsub()  # type: ignore[no-untyped-call]
