"""Connections of the asyncio client to the result backend: one reads, one receives what is published."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pattern_storage.tasks.client.async_wire import AsyncWire
from pattern_storage.tasks.resp import Incomplete, pack, read

#: Seconds within which the server is told of the end of a subscription.
UNSUBSCRIBE_WITHIN = 0.1


class ReplyWire(AsyncWire):
    """One connection with replies of any kind, an error as a ResponseError."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        """Take replies."""
        self._used = time.monotonic()
        self._buffer += data
        at = 0
        try:
            while True:
                reply, at = read(self._buffer, at)
                self._take(reply)
        except Incomplete:
            del self._buffer[:at]
        except (ConnectionResetError, ValueError, LookupError) as error:
            self.abort(ConnectionResetError(f"the server's reply cannot be read: {error}"))

    def _take(self, reply: Any) -> None:
        self._resolve([reply])


class Inbox:
    """What was published under the keys of one caller, the last under each, until the caller takes it."""

    def __init__(self) -> None:
        self._documents: dict[str, bytes] = {}
        self._filled = asyncio.Event()
        #: Whether the connection was lost, and publications with it.
        self.is_cut_off = False

    def add(self, key: str, document: bytes) -> None:
        """Add what was published under a key."""
        self._documents[key] = document
        self._filled.set()

    def cut_off(self) -> None:
        """Note that the connection was lost."""
        self.is_cut_off = True
        self._filled.set()

    async def take(self, seconds: float) -> dict[str, bytes]:
        """Return what was published since the last call, at most `seconds` later; or nothing, also if it is cut off."""
        if not self.is_cut_off:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._filled.wait()
        self._filled.clear()
        documents, self._documents = self._documents, {}
        return documents


class SubscriptionWire(ReplyWire):
    """One connection for what all tasks of an event loop are subscribed to.

    No results are read here. A server closes a subscribed connection once 32 MB wait to be sent on it, replies among
    them (`client-output-buffer-limit pubsub`); one that only reads has no such limit.
    """

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        #: The inboxes of each key, and the future of the confirmations of its SUBSCRIBE and those sent with it.
        self._channels: dict[str, tuple[asyncio.Future[list[Any]], set[Inbox]]] = {}
        #: Keys that nobody is subscribed to any more, of which the server has not been told.
        self._unused: list[str] = []

    def subscribe(self, keys: Sequence[str], inbox: Inbox, timeout: float) -> "set[asyncio.Future[list[Any]]]":
        """Subscribe to keys; return futures of the confirmations, refusals among them. Others await them too."""
        if new := [key for key in keys if key not in self._channels]:
            # One command for each key has one reply, also where it is refused.
            confirmed = self.ask(b"".join([pack("SUBSCRIBE", key) for key in new]), len(new), timeout)
            # Those that wait for it may all be cancelled: asyncio would log an exception that is never retrieved.
            confirmed.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._channels.update((key, (confirmed, set())) for key in new)
        for key in keys:
            self._channels[key][1].add(inbox)
        return {self._channels[key][0] for key in keys}

    def unsubscribe(self, keys: Sequence[str], inbox: Inbox, timeout: float) -> None:
        """End the subscriptions of one inbox; the server is told of those that no other has."""
        unused = []
        for key in keys:
            _, inboxes = self._channels.get(key, (None, set()))
            if inbox in inboxes:
                inboxes.remove(inbox)
                if not inboxes:
                    del self._channels[key]
                    unused.append(key)
        if unused and not self._unused:
            self._loop.call_later(UNSUBSCRIBE_WITHIN, self._flush, timeout)
        self._unused += unused

    def ask(self, packed: bytes, count: int, timeout: float) -> "asyncio.Future[list[Any]]":
        """As in the base; the ends of subscriptions are sent along."""
        return super().ask(self._take_unused(timeout) + packed, count, timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the futures that wait for replies, and tell the inboxes."""
        super().connection_lost(exc)
        channels, self._channels = self._channels, {}
        for _, inboxes in channels.values():
            for inbox in inboxes:
                inbox.cut_off()

    def _take_unused(self, timeout: float) -> bytes:
        unused, self._unused = self._unused, []
        if unused and not self.transport.is_closing():
            ignored = self._loop.create_future()
            ignored.cancel()
            self._expect(ignored, len(unused), timeout)
        return b"".join([pack("UNSUBSCRIBE", key) for key in unused])

    def _flush(self, timeout: float) -> None:
        if self._unused and not self.transport.is_closing():
            # Of no other replies, so nobody awaits it. It has its timeout: the connection may be dead.
            self.ask(b"", 0, timeout).cancel()

    def _take(self, reply: Any) -> None:
        # Confirmations come in the order of the commands; only publications do not.
        if not isinstance(reply, list) or reply[0] != b"message":
            self._resolve([reply])
            return
        _, key, document = reply
        confirmed, inboxes = self._channels.get(key.decode(), (None, ()))
        # What comes before the confirmation belongs to an earlier subscription to the same key.
        if confirmed is not None and confirmed.done():
            for inbox in inboxes:
                inbox.add(key.decode(), document)
