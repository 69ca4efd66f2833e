"""Counters, histograms and gauges: names, labels, units. Times are in seconds, as Prometheus wants them."""

from typing import Any

from prometheus_client import Counter, Gauge, Histogram

#: Buckets of work in PostgreSQL and Redis: from half a millisecond to the longest time limit.
WORK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0)
#: Buckets of waiting: from milliseconds to hours.
WAIT = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0)
#: Buckets of counts, up to the largest batch.
SIZE = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)


class Instruments:
    """The instruments of one process. Gauges of the servers are read at each scrape instead: see `.servers`.

    To be built after the value class was chosen (`.endpoint`).
    """

    def __init__(self) -> None:
        # In no registry: the endpoint exports the files that the processes share.
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"pattern_storage_{name}", text, labels, registry=None)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"pattern_storage_{name}", text, labels, buckets=buckets, registry=None)

        def gauge(name: str, text: str, *labels: str, mode: Any) -> Gauge:
            return Gauge(f"pattern_storage_{name}", text, labels, multiprocess_mode=mode, registry=None)

        # docs/metrics.md has the same texts.
        self.jobs = counter(
            "jobs", "Jobs that ended: success, failure, dead or revoked", "operation", "outcome", "error_type"
        )
        self.retries = counter("retries", "Attempts that ended in a retry", "operation", "error_type")
        self.replays = counter("ledger_replays", "Jobs answered from the ledger: they had been done", "operation")
        self.queue_wait = histogram(
            "queue_wait_seconds", "From the client's send to the first begin, where the message says when it was sent",
            "operation", buckets=WAIT,
        )  # fmt: skip
        self.transaction = histogram(
            "transaction_seconds", "One transaction, the wait for its connection included", "operation", buckets=WORK
        )
        self.result_store = histogram(
            "result_store_seconds", "From the end of the job to its stored result", "operation", buckets=WORK
        )
        self.group_size = histogram("group_size", "Rows in one batch (kind=batch)", "kind", buckets=SIZE)
        self.pool_connections = gauge(
            "pool_connections", "Connections to PostgreSQL, in_use or idle", "state", mode="livesum"
        )
        self.pool_limit = gauge("pool_connections_limit", "Connections that the processes may open", mode="livesum")
        self.pool_waiting = gauge("pool_requests_waiting", "Jobs that wait for a connection", mode="livesum")
        self.outbox_published = counter("outbox_published", "Jobs of the outbox put on the queue, again included")
        self.outbox_refused = counter("outbox_refused", "Jobs of the outbox that became dead letters unpublished")
        self.broker_failures = counter("broker_failures", "Calls that could not send jobs: broker down or refusing")
        self.import_rows = counter("import_rows", "Rows of imports by what became of them", "name", "outcome")
