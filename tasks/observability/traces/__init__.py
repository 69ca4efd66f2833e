"""Traces with OpenTelemetry (the extra `otel`): from the application's span to the SQL of its job.

`add_context` is the sender's half, `set_up` the worker's and the relay's.
"""

import os
import sys
from collections.abc import MutableMapping
from typing import Any
from uuid import UUID

from pattern_storage.config.settings import Settings, SettingsInvalid
from pattern_storage.config.variables import PREFIX

__all__ = ["CORRELATION_ID", "add_context", "has_context", "set_up", "wanted"]

#: The attribute that each span of a job has.
CORRELATION_ID = "pattern_storage.correlation_id"

#: OpenTelemetry's own variables for the address of the collector.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

#: Whether OpenTelemetry's API loads a provider by name when it is first asked for one.
_PROVIDER_IS_NAMED = "OTEL_PYTHON_TRACER_PROVIDER" in os.environ

_installed = False


def wanted(settings: Settings) -> bool:
    """Return whether this process exports traces.

    Raises SettingsInvalid where the setting asks for them and the extra is not installed.
    """
    if not (any(map(os.environ.get, ENDPOINTS)) if settings.traces is None else settings.traces):
        return False
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.instrumentation.celery
        import opentelemetry.instrumentation.psycopg
        import opentelemetry.instrumentation.redis  # noqa: F401
    except ImportError as error:
        # OpenTelemetry's variable may be meant for another program.
        if settings.traces is None:
            return False
        raise SettingsInvalid(
            f"{PREFIX}TRACES is true, but there is no {error.name}; pip install 'pattern-storage[otel]'"
        ) from error
    return True


def set_up(settings: Settings) -> None:
    """Export the traces of this process and its children, if they are wanted. To be called before any fork."""
    global _installed
    if wanted(settings) and not _installed:
        # Imported only here: it takes a fifth of a second.
        from pattern_storage.tasks.observability.traces.export import install

        install()
        _installed = True


def has_context() -> bool:
    """Return whether the caller is part of a trace, or records its own, and `set_up` has not instrumented Celery."""
    # An application that traces has imported OpenTelemetry; others pay for one lookup. The instrumentation of `set_up`
    # adds the context to all of Celery's messages itself.
    trace: Any = sys.modules.get("opentelemetry.trace")
    if _installed or trace is None:
        return False
    span = trace.get_current_span()
    if span is not trace.INVALID_SPAN and span.get_span_context().is_valid:
        return True
    # redis-py imports it too, which makes no tracer. Asked for the provider, the API reads the environment each time
    # until there is one, which takes longer than a message.
    if vars(trace).get("_TRACER_PROVIDER", trace) is None and not _PROVIDER_IS_NAMED:
        return False
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def add_context(operation: str, correlation_id: UUID, headers: MutableMapping[str, Any]) -> None:
    """Make the job part of the caller's trace, through the headers of its message (W3C Trace Context)."""
    if not has_context():
        return
    from opentelemetry import propagate, trace

    attributes = {CORRELATION_ID: str(correlation_id), "messaging.operation.type": "create"}
    with trace.get_tracer("pattern-storage").start_as_current_span(
        f"create storage.{operation}", kind=trace.SpanKind.PRODUCER, attributes=attributes
    ):
        propagate.inject(headers)
