"""Publishing to a server that becomes a replica while a client is connected to it: the next connection is another's."""

import asyncio
from collections.abc import Iterator
from itertools import count
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from pattern_storage import AsyncPatternStorageClient, PatternStorageClient
from pattern_storage.testing import make_pattern


class Demoted(StreamRequestHandler):
    """Accepts one message on its first connection, and refuses others there as a replica does."""

    def handle(self) -> None:
        connection, pushed = next(self.server.connections), 0  # type: ignore[attr-defined]
        while line := self.rfile.readline():
            words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2) for _ in range(int(line[1:]))]
            pushed += words[0] == b"LPUSH\r\n"
            if words[0] != b"LPUSH\r\n":
                self.wfile.write(b"+OK\r\n")
            elif connection == 0 and pushed > 1:
                self.wfile.write(b"-READONLY You can't write against a read only replica.\r\n")
            else:
                self.wfile.write(b":1\r\n")


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingTCPServer(("127.0.0.1", 0), Demoted) as server:
        server.daemon_threads, server.connections = True, count()  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()


def test_synchronous(url: str) -> None:
    with PatternStorageClient(redis_url=url) as client:
        for _ in range(3):
            client.insert(make_pattern())


def test_asyncio(url: str) -> None:
    async def publish() -> None:
        async with AsyncPatternStorageClient(redis_url=url) as client:
            for _ in range(3):
                await client.insert(make_pattern())

    asyncio.run(publish())
