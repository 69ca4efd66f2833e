"""A source of imports that ends when the test wants it to."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.fix_imports import patterns
from tests.fix_process import DEADLINE


class SlowFile(ThreadingHTTPServer):
    """JSON Lines over HTTP: the first half at once, the second when the test says so."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.halves = ["".join(json.dumps(row) + "\n" for row in half).encode() for half in (rows[::2], rows[1::2])]
        self.go_on = threading.Event()
        #: Times that somebody began to read it.
        self.begun = 0
        self.status = 200
        super().__init__(("127.0.0.1", 0), _SlowHandler)
        self.url = f"http://127.0.0.1:{self.server_port}/rows.jsonl"
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        """Say nothing of readers that were killed."""


class _SlowHandler(BaseHTTPRequestHandler):
    server: SlowFile

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.send_response(self.server.status)
        self.send_header("ETag", '"always"')
        self.send_header("Content-Length", str(sum(map(len, self.server.halves))))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        if self.server.status != 200:
            return
        self.wfile.write(self.server.halves[0])
        self.wfile.flush()
        self.server.begun += 1
        self.server.go_on.wait(DEADLINE)
        self.wfile.write(self.server.halves[1])


@pytest.fixture
def slow_file() -> Iterator[SlowFile]:
    """A source that ends when the test wants it to: 400 patterns, more than a chunk in each half."""
    rows = patterns(400, description="x" * 2_000)
    server = SlowFile(rows)
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()
