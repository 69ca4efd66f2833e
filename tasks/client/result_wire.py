"""Connection of the asyncio client to the result backend: reads results, and receives those that are published."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from pattern_storage.tasks.client.async_wire import AsyncWire
from pattern_storage.tasks.client.result_document import unreadable
from pattern_storage.tasks.resp import Incomplete, pack, read

#: Seconds within which the server is told of the end of a subscription.
UNSUBSCRIBE_WITHIN = 0.1


class Subscriber:
    """What one caller has received under its keys and has not taken yet."""

    def __init__(self) -> None:
        self._documents: list[tuple[str, bytes]] = []
        self._woken = asyncio.Event()
        #: Whether its connection was lost, and publications with it.
        self.is_cut_off = False

    def add(self, key: str, document: bytes) -> None:
        """Add what was published under a key."""
        self._documents.append((key, document))
        self._woken.set()

    def cut_off(self) -> None:
        """Note that the connection was lost."""
        self.is_cut_off = True
        self._woken.set()

    async def wait(self, seconds: float) -> list[tuple[str, bytes]]:
        """Return what was published since the last call; nothing if that is so for so many seconds, or once cut off."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()
        documents, self._documents = self._documents, []
        return documents


class ResultWire(AsyncWire):
    """One connection for the results of all tasks of an event loop."""

    # In RESP 3 a subscribed connection accepts other commands too.
    protocol = 3

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._buffer = bytearray()
        #: Keys that nobody is subscribed to any more, of which the server has not been told.
        self._unused: list[str] = []
        #: Subscribers of each key, with the future of what they read when they began.
        self._subscribers: dict[str, dict[Subscriber, asyncio.Future[list[Any]]]] = {}

    def read(self, keys: Sequence[str], timeout: float) -> "asyncio.Future[list[Any]]":
        """Return a future of the values of these keys, each for `document_of`; errors as in `ask`."""
        return self.ask(b"".join([pack("GET", key) for key in keys]), len(keys), timeout)

    def subscribe(self, keys: Sequence[str], subscriber: Subscriber, timeout: float) -> "asyncio.Future[list[Any]]":
        """Subscribe to these keys, and read them as soon as that is done; the values are the last of the replies."""
        new = [key for key in keys if key not in self._subscribers]
        # One command for each key has one reply, also where it is refused.
        packed = b"".join([pack(command, key) for command, some in (("SUBSCRIBE", new), ("GET", keys)) for key in some])
        reading = self.ask(packed, len(new) + len(keys), timeout)
        for key in keys:
            self._subscribers.setdefault(key, {})[subscriber] = reading
        return reading

    def unsubscribe(self, keys: Sequence[str], subscriber: Subscriber, timeout: float) -> None:
        """End the subscriptions of one subscriber; the server is told of those that nobody else has."""
        unused = []
        for key in keys:
            subscribers = self._subscribers.get(key, {})
            if subscribers.pop(subscriber, None) is not None and not subscribers:
                del self._subscribers[key]
                unused.append(key)
        if unused and not self._unused:
            self._loop.call_later(UNSUBSCRIBE_WITHIN, self._unsubscribe_unused, timeout)
        self._unused += unused

    def ask(self, packed: bytes, count: int, timeout: float) -> "asyncio.Future[list[Any]]":
        """As `AsyncWire.ask`; the ends of subscriptions are sent together with the next command."""
        if self._unused and not self._transport.is_closing():
            unused, self._unused = self._unused, []
            packed = b"".join([pack("UNSUBSCRIBE", key) for key in unused]) + packed
            ignored = self._loop.create_future()
            ignored.cancel()
            self._wait(ignored, len(unused), timeout)
        return super().ask(packed, count, timeout)

    def _unsubscribe_unused(self, timeout: float) -> None:
        if self._unused and not self._transport.is_closing():
            # Nobody awaits it.
            self.ask(b"", 0, timeout).cancel()

    def data_received(self, data: bytes) -> None:
        """Take replies, and give publications to their subscribers."""
        self._buffer += data
        at = 0
        try:
            while True:
                reply, at = read(self._buffer, at)
                # Confirmations of subscriptions come in the order of replies; only publications do not.
                if isinstance(reply, list) and reply[0] == b"message":
                    self._publish(reply[1].decode(), reply[2])
                else:
                    self._take([reply])
        except Incomplete:
            del self._buffer[:at]
        except ConnectionResetError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the futures that wait for replies, and tell the subscribers."""
        super().connection_lost(exc)
        for subscribers in self._subscribers.values():
            for subscriber in subscribers:
                subscriber.cut_off()

    def _publish(self, key: str, document: bytes) -> None:
        for subscriber, reading in self._subscribers.get(key, {}).items():
            # What was published before it has read belongs to an earlier subscription to the same key.
            if reading.done():
                subscriber.add(key, document)


def document_of(value: Any) -> bytes | None:
    """Return the result document of a reply to GET. Raises ResponseError if reading was refused."""
    if isinstance(value, ResponseError):
        return unreadable(value)
    document: bytes | None = value
    return document


Send = Callable[[ResultWire], "asyncio.Future[list[Any]]"]
