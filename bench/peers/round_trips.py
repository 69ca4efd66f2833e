"""A proxy before PostgreSQL that counts round trips: how often a client sends what it then waits for.

That is a simple query, or the Sync after one or more statements of the extended protocol; not
Flush, nor the end of a COPY.
https://www.postgresql.org/docs/18/protocol-flow.html
"""

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

#: Bytes that are passed on at once at most.
CHUNK = 1 << 16
#: Types of the messages after which a client waits: Query and Sync.
WAITS = b"QS"
#: Of a StartupMessage, in the upper half of its version; requests before it, such as for TLS, have others.
VERSION = 3


class Messages:
    """Finds the messages of one client in the bytes that it sends, and counts those after which it waits."""

    def __init__(self) -> None:
        self._rest, self._skipped, self._has_started = b"", 0, False

    def feed(self, said: bytes) -> int:
        """Return after how many of the messages that begin in these bytes the client waits."""
        self._rest += said
        waits = 0
        while True:
            passed = min(self._skipped, len(self._rest))
            self._rest, self._skipped = self._rest[passed:], self._skipped - passed
            if self._skipped or len(self._rest) < 8 - 3 * self._has_started:
                return waits
            if self._has_started:
                kind, length = struct.unpack_from("!BI", self._rest)
                waits += kind in WAITS
                self._skipped = 1 + length
            else:
                self._skipped, version = struct.unpack_from("!II", self._rest)
                self._has_started = version >> 16 == VERSION


class Proxy:
    """Passes on what clients and the server say, on a port of its own of this machine."""

    def __init__(self, database_url: str) -> None:
        self._server = urlsplit(database_url)
        #: The URL for clients.
        self.url = ""
        #: Round trips of all connections so far.
        self.round_trips = 0

    async def listen(self) -> asyncio.Server:
        """Begin to accept connections."""
        listening = await asyncio.start_server(self._connect, "127.0.0.1")
        port = listening.sockets[0].getsockname()[1]
        account, _, _ = self._server.netloc.rpartition("@")
        self.url = urlunsplit(self._server._replace(netloc=f"{account}@127.0.0.1:{port}"))
        return listening

    async def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        messages = Messages()

        async def ask() -> None:
            while said := await client.read(CHUNK):
                self.round_trips += messages.feed(said)
                to_server.write(said)
            to_server.close()

        async def reply() -> None:
            while said := await server.read(CHUNK):
                to_client.write(said)
            to_client.close()

        with suppress(ConnectionError):
            await asyncio.gather(ask(), reply())
        for writer in (to_client, to_server):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@contextmanager
def counted(database_url: str) -> Iterator[Proxy]:
    """Yield a proxy that runs in a thread of its own."""
    proxy, listens, loop = Proxy(database_url), threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        listening = await proxy.listen()
        listens.set()
        await ended.wait()
        listening.close()
        # Connections end with their clients.
        if open_ones := asyncio.all_tasks() - {asyncio.current_task()}:
            _, left = await asyncio.wait(open_ones, timeout=1.0)
            for task in left:
                task.cancel()

    ended = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    listens.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
