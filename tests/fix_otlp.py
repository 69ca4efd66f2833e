"""A collector of OpenTelemetry traces: it takes OTLP over HTTP and keeps every span."""

import gzip
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.fix_process import wait_until


@dataclass(frozen=True)
class Span:
    """One span as it came over the wire; ids are hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    service: str
    attributes: dict[str, str]


class Collector:
    """Listens on 127.0.0.1; `url` is what OTEL_EXPORTER_OTLP_ENDPOINT takes."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            service = {pair.key: pair.value.string_value for pair in resource.resource.attributes}["service.name"]
            self.spans += [
                Span(
                    span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), service,
                    {pair.key: pair.value.string_value for pair in span.attributes},
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]  # fmt: skip

    def wait_for(self, what: str, wanted: Callable[[Span], bool]) -> Span:
        """Return the first span that is wanted, once it has come."""
        found = wait_until(lambda: [span for span in list(self.spans) if wanted(span)], f"a span comes: {what}")
        first: Span = found[0]
        return first

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector of this test's own."""
    opened = Collector()
    yield opened
    opened.close()
