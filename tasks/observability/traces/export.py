"""Exporter of spans in a worker or relay: instrumentation, the correlation id on every span, OTLP.

A job's span comes from OpenTelemetry's instrumentation of Celery, its SQL from that of psycopg, the store of its
result from that of redis-py. Each writes commands without their values. This module adds the correlation id, and the
one statement that the instrumentation of psycopg does not know: COPY.
"""

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from celery import signals
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from pattern_storage.tasks.observability.traces import CORRELATION_ID

#: Seconds that the end of a process waits for a collector to take the last spans.
FLUSH_TIMEOUT = 2.0

#: The id of the message that is being published.
_published: ContextVar[str | None] = ContextVar("published", default=None)


class Correlation(SpanProcessor):
    """Copies the correlation id of a job's span to all spans below it."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Copy the attribute of the parent; the span of a message that no job sends gets the message's own id."""
        inherited = getattr(trace.get_current_span(parent_context), "attributes", None) or {}
        correlation_id = inherited.get(CORRELATION_ID)
        if span.kind is trace.SpanKind.PRODUCER:
            correlation_id = correlation_id or _published.get()
        if correlation_id:
            span.set_attribute(CORRELATION_ID, correlation_id)


class JobSpans(BatchSpanProcessor):
    """Exports the spans of jobs; a worker's own commands, polls and heartbeats by the thousand, are left out."""

    def on_end(self, span: ReadableSpan) -> None:
        """Keep the span if it has a correlation id."""
        if CORRELATION_ID in (span.attributes or {}):
            super().on_end(span)


def install() -> None:
    """Trace this process, and after a fork the child, with the global tracer provider."""
    # OpenTelemetry's own variable has the last word.
    name = os.environ.get("OTEL_SERVICE_NAME") or "pattern-storage"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(Correlation())
    provider.add_span_processor(JobSpans(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    # Before the instrumentation's own, which begins the span.
    @signals.before_task_publish.connect(weak=False)
    def name_message(headers: dict[str, Any], **_: Any) -> None:
        _published.set(headers.get("id"))

    CeleryInstrumentor().instrument(tracer_provider=provider)  # type: ignore[no-untyped-call]
    PsycopgInstrumentor().instrument(tracer_provider=provider)
    RedisInstrumentor().instrument(tracer_provider=provider)
    _trace_copy(provider.get_tracer("pattern-storage"))

    # After the instrumentation's own, which begins the span.
    @signals.task_prerun.connect(weak=False)
    def name_job(task_id: str, **_: Any) -> None:
        trace.get_current_span().set_attribute(CORRELATION_ID, task_id)

    # A prefork child ends without running atexit's functions.
    @signals.worker_process_shutdown.connect(weak=False)
    @signals.worker_shutdown.connect(weak=False)
    def flush(**_: Any) -> None:
        # The SDK's own time limits are not kept (opentelemetry-python issue 4568).
        ending = threading.Thread(target=provider.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(FLUSH_TIMEOUT)


def _trace_copy(tracer: trace.Tracer) -> None:
    """Give COPY, by which batches are written, a span: like the others, with its text and no rows."""
    original = psycopg.AsyncCursor.copy

    @asynccontextmanager
    async def copy(cursor: Any, statement: Any, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        text = statement.as_string(cursor) if hasattr(statement, "as_string") else str(statement)
        attributes = {"db.system": "postgresql", "db.statement": text}
        with tracer.start_as_current_span("COPY", kind=trace.SpanKind.CLIENT, attributes=attributes):
            async with original(cursor, statement, *arguments, **options) as opened:
                yield opened

    psycopg.AsyncCursor.copy = copy  # type: ignore[method-assign, assignment]
