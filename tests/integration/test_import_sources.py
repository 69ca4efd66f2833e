"""Sources as they are outside: links, pipes, odd names, HTTP servers that limit, and compression said twice."""

import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from tests.fix_imports import Importing, make_plan, patterns, write_lines
from tests.fix_storage import make_pattern

Db = AsyncConnection[DictRow]


async def count(connection: Db) -> int:
    row = await (await connection.execute("SELECT count(*) AS count FROM pattern_templates")).fetchone()
    return int(row["count"]) if row else 0


async def test_a_mounted_config_map_is_nothing_but_links(importing: Importing, connection: Db, tmp_path: Path) -> None:
    """Kubernetes changes all files at once: each is a link through `..data`, which is a link as well."""
    revision = tmp_path / "..2026_01_01"
    revision.mkdir()
    for name in ("a", "b"):
        write_lines(revision / f"{name}.jsonl", patterns(2))
        (tmp_path / f"{name}.jsonl").symlink_to(f"..data/{name}.jsonl")
    (tmp_path / "..data").symlink_to(revision.name)
    plan = make_plan(f"{tmp_path}/*.jsonl", on_conflict="skip")
    result = await importing(plan)
    assert result.success, result.error
    assert result.data["rows_inserted"] == 4
    assert (await importing(plan)).data["state"] == "unchanged"
    write_lines(revision / "b.jsonl", patterns(1))
    assert (await importing(plan)).data["rows_inserted"] == 1, "a change behind the links is seen"
    everywhere = await importing(make_plan(f"{tmp_path}/**", format="jsonl", on_conflict="skip", name="all"))
    assert everywhere.data["rows_read"] == 3, "hidden folders are left out, each file is there once"
    assert await count(connection) == 5


async def test_a_link_to_nothing(importing: Importing, tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", patterns(1))
    (tmp_path / "b.jsonl").symlink_to("gone.jsonl")
    for source in (f"{tmp_path}/*.jsonl", f"{tmp_path}/b.jsonl"):
        result = await importing(make_plan(source))
        assert result.metadata["error_type"] == "source_missing"
        assert result.error == f"{tmp_path}/b.jsonl is a symbolic link to gone.jsonl, which does not exist"
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "b.jsonl").symlink_to("b.jsonl")
    result = await importing(make_plan(tmp_path / "b.jsonl"))
    assert (result.metadata["error_type"], result.metadata.get("retryable")) == ("source_unreadable", None)


@pytest.mark.parametrize("source", ["pipe.jsonl", "*.jsonl"])
async def test_a_pipe_is_refused_at_once(importing: Importing, tmp_path: Path, source: str) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    result = await importing(make_plan(tmp_path / source))
    assert (result.metadata["error_type"], result.metadata.get("retryable")) == ("source_unreadable", None)
    assert "is a pipe, and an import reads its source more than once; write it to a file first" in str(result.error)


async def test_process_substitution_and_devices(importing: Importing) -> None:
    reading, writing = os.pipe()
    try:
        result = await importing(make_plan(f"/dev/fd/{reading}", format="jsonl"))
    finally:
        os.close(reading)
        os.close(writing)
    assert result.error == (
        f"/dev/fd/{reading} is a pipe, and an import reads its source more than once; write it to a file first"
    )
    assert "is a device" in str((await importing(make_plan("/dev/null", format="jsonl"))).error)


ODD = [
    "a:b.jsonl",
    "a::b.jsonl",
    "s3::b.jsonl",
    "[ab].jsonl",
    "a b%20c.jsonl",
    "a#b?c.jsonl",
    "A.JSONL",
    "new\nline.jsonl",
]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("pattern", [False, True])
async def test_odd_names(importing: Importing, tmp_path: Path, name: str, pattern: bool) -> None:
    folder = tmp_path / "[x]"
    folder.mkdir()
    write_lines(folder / name, patterns(1))
    source = f"{folder}/*{name[1:]}" if pattern else f"{folder}/{name}"
    result = await importing(make_plan(source))
    assert result.success, result.error
    assert result.data["rows_inserted"] == 1


@pytest.mark.parametrize("url", ["file://{}", "file:{}", "local://{}"])
async def test_a_file_url_is_percent_encoded(importing: Importing, tmp_path: Path, url: str) -> None:
    write_lines(tmp_path / "a b.jsonl", patterns(1))
    result = await importing(make_plan(url.format(f"{tmp_path}/a%20b.jsonl")))
    assert result.success, result.error


async def test_a_name_that_is_not_utf8(importing: Importing, connection: Db, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_text("rubbish\n")
    write_lines(tmp_path / "other.jsonl", patterns(1))
    result = await importing(make_plan(f"{tmp_path}/*.jsonl"))
    [bad] = result.metadata["bad_rows"]
    assert bad["file"] == f"{tmp_path}/caf\\xe9.jsonl"
    assert await count(connection) == 0


class Scripted(BaseHTTPRequestHandler):
    """Answers each request as `answer(method)` says: a status, headers, and a body."""

    answer: Callable[[str], tuple[int, dict[str, str], bytes]]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        status, headers, body = type(self).answer(self.command)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "ETag": '"1"'} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], tuple[int, dict[str, str], bytes]]], str]]:
    """Start an HTTP server that answers by a function, and return its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[str], tuple[int, dict[str, str], bytes]]) -> str:
        handler = type("Handler", (Scripted,), {"answer": staticmethod(answer)})
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=[0.01], daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


Serve = Callable[[Callable[[str], tuple[int, dict[str, str], bytes]]], str]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("methods", [("HEAD", "GET"), ("GET",)])
async def test_a_server_that_refuses_for_now(
    importing: Importing, serve: Serve, status: int, methods: tuple[str, ...]
) -> None:
    url = serve(lambda method: (status if method in methods else 200, {"Retry-After": "7"}, b""))
    result = await importing(make_plan(f"{url}/a.jsonl"))
    assert (result.metadata["error_type"], result.metadata["retryable"]) == ("source_unavailable", True)
    assert result.metadata["retry_after"] == 7.0
    assert f"cannot be read now: {status} " in str(result.error)


async def test_retry_after_a_date(importing: Importing, serve: Serve) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    url = serve(lambda _: (429, {"Retry-After": date}, b""))
    result = await importing(make_plan(f"{url}/a.jsonl"))
    assert 3_000 < result.metadata["retry_after"] <= 3_600
    url = serve(lambda _: (429, {"Retry-After": "soon"}, b""))
    assert "retry_after" not in (await importing(make_plan(f"{url}/a.jsonl"))).metadata


@pytest.mark.parametrize(
    ("status", "error_type"), [(401, "source_unreadable"), (403, "source_unreadable"), (410, "source_missing")]
)
async def test_a_server_that_refuses_for_good(importing: Importing, serve: Serve, status: int, error_type: str) -> None:
    result = await importing(make_plan(f"{serve(lambda _: (status, {}, b''))}/a.jsonl"))
    assert (result.metadata["error_type"], result.metadata.get("retryable")) == (error_type, None)


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])
async def test_compression_said_by_name_and_by_header(
    importing: Importing, serve: Serve, name: str, encoded: bool
) -> None:
    """`Content-Encoding: gzip` of a `.gz` is the compression of the file; of anything else the server's own."""
    plain = json.dumps(make_pattern()).encode() + b"\n"
    body = gzip.compress(plain) if encoded or name.endswith(".gz") else plain
    url = serve(lambda _: (200, {"Content-Encoding": "gzip"} if encoded else {}, body))
    result = await importing(make_plan(f"{url}/{name}"))
    assert result.success, result.error
    assert result.data["rows_inserted"] == 1
