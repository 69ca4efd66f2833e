"""Imports over HTTP: etags, compression, several files, and servers that refuse for now or for good."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.fix_imports import Importing, make_plan, patterns, stored_names, write_lines
from tests.fix_storage import Connection, make_pattern


class Files(SimpleHTTPRequestHandler):
    """Serves the files of a folder. Like most small servers, Python's knows no ranges."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


Answer = tuple[int, dict[str, str], bytes]


class Scripted(BaseHTTPRequestHandler):
    """Answers each request as `answer(method)` says: a status, headers, and a body."""

    answer: Callable[[str], Answer]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        status, headers, body = type(self).answer(self.command)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "ETag": '"1"'} | headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def scripted(answer: Callable[[str], Answer]) -> type[Scripted]:
    """Return a handler that answers by a function of the method."""
    return type("Handler", (Scripted,), {"answer": staticmethod(answer)})


Serve = Callable[[Any], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start an HTTP server on 127.0.0.1 and return its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(handler: Any) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=[0.01], daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
async def test_over_http(importing: Importing, connection: Connection, tmp_path: Path, serve: Serve, name: str) -> None:
    rows = patterns(3_000)
    path = write_lines(tmp_path / "a.jsonl", rows)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    elif name.endswith(".parquet"):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    plan = make_plan(f"{serve(partial(Files, directory=str(tmp_path)))}/{name}?token=secret")
    result = await importing(plan)
    assert result.success, result.error
    assert len(await stored_names(connection)) == 3_000
    assert (await importing(plan)).data["state"] == "unchanged"


async def test_several_files_over_http(
    importing: Importing, connection: Connection, tmp_path: Path, serve: Serve
) -> None:
    for name in ("b", "a"):
        write_lines(tmp_path / f"{name}.jsonl", [make_pattern(pattern_name=name)])
    (tmp_path / "c.txt").write_text("not this one")
    plan = make_plan(f"{serve(partial(Files, directory=str(tmp_path)))}/*.jsonl")
    result = await importing(plan)
    assert result.success, result.error
    assert await stored_names(connection) == ["a", "b"]
    assert (await importing(plan)).data["state"] == "unchanged"


async def test_http_with_an_etag(importing: Importing, serve: Serve) -> None:
    content, etag = json.dumps(make_pattern()).encode(), '"one"'
    url = serve(scripted(lambda _: (200, {"Content-Length": "", "ETag": etag}, content)))
    plan = make_plan(f"{url}/a.jsonl", on_conflict="skip")
    first = await importing(plan)
    assert first.success, first.error
    assert first.data["source_version"] == 'etag "one"'
    assert (await importing(plan)).data["state"] == "unchanged"
    etag = '"two"'
    assert (await importing(plan)).data["state"] == "done"


@pytest.mark.parametrize("methods", [("HEAD", "GET"), ("GET",)])
async def test_a_server_that_refuses_for_now(importing: Importing, serve: Serve, methods: tuple[str, ...]) -> None:
    status = 200
    url = serve(scripted(lambda method: (status if method in methods else 200, {"Retry-After": "7"}, b"")))
    for status in (408, 425, 429, 500, 502, 503, 504):
        result = await importing(make_plan(f"{url}/a.jsonl"))
        assert (result.metadata["error_type"], result.metadata["retryable"]) == ("source_unavailable", True)
        assert result.metadata["retry_after"] == 7.0
        assert f"cannot be read now: {status} " in str(result.error)


async def test_retry_after_a_date(importing: Importing, serve: Serve) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    url = serve(scripted(lambda _: (429, {"Retry-After": date}, b"")))
    result = await importing(make_plan(f"{url}/a.jsonl"))
    assert 3_000 < result.metadata["retry_after"] <= 3_600
    url = serve(scripted(lambda _: (429, {"Retry-After": "soon"}, b"")))
    assert "retry_after" not in (await importing(make_plan(f"{url}/a.jsonl"))).metadata


async def test_a_server_that_refuses_for_good(importing: Importing, serve: Serve) -> None:
    status = 401
    url = serve(scripted(lambda _: (status, {}, b"")))
    refusals = {401: "source_unreadable", 403: "source_unreadable", 404: "source_missing", 410: "source_missing"}
    for status, error_type in refusals.items():
        result = await importing(make_plan(f"{url}/here/a.jsonl?token=secret"))
        assert (result.metadata["error_type"], result.metadata.get("retryable")) == (error_type, None), status
        assert "/here/a.jsonl" in str(result.error)
        assert "secret" not in str(result.error)


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])
async def test_compression_said_by_name_and_by_header(
    importing: Importing, serve: Serve, name: str, encoded: bool
) -> None:
    """`Content-Encoding: gzip` of a `.gz` is the compression of the file; of anything else the server's own."""
    plain = json.dumps(make_pattern()).encode() + b"\n"
    body = gzip.compress(plain) if encoded or name.endswith(".gz") else plain
    url = serve(scripted(lambda _: (200, {"Content-Encoding": "gzip"} if encoded else {}, body)))
    result = await importing(make_plan(f"{url}/{name}"))
    assert result.success, result.error
    assert result.data["rows_inserted"] == 1


async def test_http_where_nobody_listens(importing: Importing, absent_url: str) -> None:
    result = await importing(make_plan(absent_url.replace("redis", "http") + "/a.jsonl"))
    assert result.metadata["error_type"] == "source_unavailable"
    assert result.metadata["retryable"] is True
