"""One trace from an application's own span to the SQL of its job, through a real worker and a real collector."""

from collections.abc import Callable

import pytest

from pattern_storage.config.settings import Settings, SettingsInvalid
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.observability import traces
from tests.fix_celery import StartWorker
from tests.fix_otlp import Collector, Span
from tests.fix_process import run_python
from tests.fix_storage import make_pattern

SECRET = "def nobody_else_should_see_this(): ..."
APPLICATION = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from pattern_storage.tasks.client import PatternStorageClient

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
pattern = {"pattern_type": "code", "language": "python", "template_code": sys.argv[1]}
with trace.get_tracer("shop").start_as_current_span("checkout"), PatternStorageClient() as client:
    jobs = [
        client.insert({"pattern_name": "traced", **pattern}),
        client.batch_insert([{"pattern_name": f"traced {number}", **pattern} for number in range(3)]),
    ]
    for job in jobs:
        assert job.result(timeout=30).success
        print(job.correlation_id)
"""


def _sql(word: str, correlation_id: str) -> Callable[[Span], bool]:
    def wanted(span: Span) -> bool:
        statement = span.attributes.get("db.statement", "")
        return word in statement and span.attributes.get(traces.CORRELATION_ID) == correlation_id

    return wanted


def test_one_trace_from_the_application_to_the_sql(
    start_worker: StartWorker, collector: Collector, redis_url: str
) -> None:
    # Half a second instead of the SDK's five: nobody wants to wait for the batch to be sent.
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "500"}
    worker = start_worker(env=variables)
    done = run_python("-c", APPLICATION, SECRET, REDIS_URL=redis_url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert done.returncode == 0, done.stderr
    insert_id, batch_id = done.stdout.split()
    insert = collector.wait_for("the INSERT", _sql("INSERT INTO pattern_templates", insert_id))
    ledger = collector.wait_for("the ledger's", _sql("INSERT INTO job_ledger", insert_id))
    copy = collector.wait_for("the COPY", _sql("COPY pattern_templates", batch_id))
    stored = collector.wait_for(
        "the result's", lambda span: "EVALSHA" in span.attributes.get("db.statement", "") and _is(span, insert_id)
    )
    assert worker.stop() == 0

    spans = {span.span_id: span for span in collector.spans}
    checkout = collector.wait_for("the application's", lambda span: span.name == "checkout")
    for leaf, names in (
        (insert, ["run/storage.insert", "create storage.insert", "checkout"]),
        (ledger, ["run/storage.insert", "create storage.insert", "checkout"]),
        (stored, ["run/storage.insert", "create storage.insert", "checkout"]),
        (copy, ["run/storage.batch_insert", "create storage.batch_insert", "checkout"]),
    ):
        above = []
        span = leaf
        while span.parent_id:
            span = spans[span.parent_id]
            above.append(span.name)
        assert above == names
        assert leaf.trace_id == checkout.trace_id
    # Each span of the worker's belongs to a job and says to which; none shows a value.
    for span in collector.spans:
        if span.service == "pattern-storage":
            assert span.attributes.get(traces.CORRELATION_ID) in (insert_id, batch_id), span
        assert SECRET not in str(span)
        assert "traced" not in str(span)


def _is(span: Span, correlation_id: str) -> bool:
    return span.attributes.get(traces.CORRELATION_ID) == correlation_id


def test_a_collector_that_is_down_costs_no_job(
    start_worker: StartWorker, client: PatternStorageClient, absent_url: str
) -> None:
    worker = start_worker(env={"OTEL_EXPORTER_OTLP_ENDPOINT": absent_url.replace("redis", "http").removesuffix("/0")})
    assert client.insert(make_pattern()).result(timeout=60).success
    assert worker.stop() == 0


def test_when_traces_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in traces.ENDPOINTS:
        monkeypatch.delenv(variable, raising=False)
    assert not traces.wanted(Settings())
    assert traces.wanted(Settings(traces=True))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert traces.wanted(Settings())
    assert not traces.wanted(Settings(traces=False))


def test_traces_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.instrumentation.celery", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    # The variable may be meant for another program; ours is meant for us.
    assert not traces.wanted(Settings())
    with pytest.raises(SettingsInvalid, match=r"PATTERN_STORAGE_TRACES is true.*pip install 'pattern-storage\[otel\]'"):
        traces.wanted(Settings(traces=True))
