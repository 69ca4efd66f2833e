"""A TCP proxy that stands between a worker and a server, and fails as networks do."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest

CHUNK = 65_536
#: Linger for zero seconds: closing sends a reset, not an orderly end.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes to a server at `(host, port)`, until it is told to fail.

    `stall` keeps everything, connections open and silent, and `flow` lets it go on. `reset` ends all connections.
    `refuse` ends them and listens no more until `listen`. `lose_answer_to(words)` passes the next request that
    contains these bytes and ends its connection when the server has answered it: the server has done it, and
    whoever asked never learns. `keep_answer_to(words)` is the same with a connection that stays open and silent.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._traps: dict[bytes, int] = {}
        self._keeping = False
        #: How many answers have been lost.
        self.lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accept_from(self._listener)

    def stall(self) -> None:
        """Pass nothing on, and say nothing."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on again, beginning with what was kept."""
        self._flowing.set()

    def reset(self) -> int:
        """End all connections and return how many there were; new ones are welcome."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _end(*pair)
        return len(pairs)

    def refuse(self) -> None:
        """End all connections, and accept none until `listen`."""
        # A thread that waits in accept keeps the port open until it is woken.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def listen(self) -> None:
        """Accept connections again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accept_from(self._listener)

    def lose_answer_to(self, words: bytes, times: int = 1) -> None:
        """Lose the server's answers to the next requests that contain these bytes."""
        with self._lock:
            self._traps[words], self._keeping = times, False

    def keep_answer_to(self, words: bytes, times: int = 1) -> None:
        """Keep the server's answers to the next requests that contain these bytes, and all that follow, to itself."""
        with self._lock:
            self._traps[words], self._keeping = times, True

    def close(self) -> None:
        """End everything."""
        self.refuse()
        self.flow()

    def _accept_from(self, listener: socket.socket) -> None:
        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                try:
                    server = socket.create_connection(self._server)
                except OSError:
                    _end(client)
                    continue
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pair = (client, server)
                with self._lock:
                    self._pairs.add(pair)
                trapped = threading.Event()
                threading.Thread(target=self._pass_requests, args=(pair, trapped), daemon=True).start()
                threading.Thread(target=self._pass_answers, args=(pair, trapped), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()

    def _pass_requests(self, pair: tuple[socket.socket, socket.socket], trapped: threading.Event) -> None:
        client, server = pair
        with self._ending(pair):
            while data := client.recv(CHUNK):
                self._flowing.wait()
                if self._springs_trap(data):
                    trapped.set()
                server.sendall(data)

    def _pass_answers(self, pair: tuple[socket.socket, socket.socket], trapped: threading.Event) -> None:
        client, server = pair
        with self._ending(pair):
            while data := server.recv(CHUNK):
                self._flowing.wait()
                if not trapped.is_set():
                    client.sendall(data)
                    continue
                with self._lock:
                    self.lost += 1
                if not self._keeping:
                    return

    def _springs_trap(self, data: bytes) -> bool:
        with self._lock:
            for words, times in self._traps.items():
                if times and words in data:
                    self._traps[words] -= 1
                    return True
        return False

    @contextmanager
    def _ending(self, pair: tuple[socket.socket, socket.socket]) -> Iterator[None]:
        """End both sides as soon as one of them has ended."""
        try:
            with suppress(OSError):
                yield
        finally:
            with self._lock:
                self._pairs.discard(pair)
            _end(*pair)


ProxyTo = Callable[[str], Proxy]


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            # Wakes the thread that reads from it, which closing does not, and sends nothing.
            one.shutdown(socket.SHUT_RD)
        one.close()


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def through(url: str, proxy: Proxy) -> str:
    """Return the URL of the same server behind the proxy."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()


@pytest.fixture
def proxy_to() -> Iterator[Callable[[str], Proxy]]:
    """Stand between a worker and the server of a URL."""
    opened: list[Proxy] = []

    def start(url: str) -> Proxy:
        opened.append(Proxy(address(url)))
        return opened[-1]

    yield start
    for proxy in opened:
        proxy.close()
