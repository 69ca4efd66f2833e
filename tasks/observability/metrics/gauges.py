"""Gauges of the servers and of imports, made at each scrape; every worker and relay gives the same."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from pattern_storage.storage.import_health import ImportHealth
from pattern_storage.storage.outbox import OutboxSize


def _gauge(
    name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    """Return a gauge with a value for each tuple of labels."""
    gauge = GaugeMetricFamily(f"pattern_storage_{name}", text, labels=labels)
    for values, value in samples:
        gauge.add_metric(values, value)
    return gauge


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return _gauge(name, text, (), [((), value)])


def of_servers(answered: Mapping[str, bool]) -> Metric:
    """Return which servers answered this scrape."""
    values = (((server,), float(up)) for server, up in answered.items())
    return _gauge("up", "1 if the server answered this scrape, else 0", ("server",), values)


def of_postgresql(size: OutboxSize, dead_letters: int) -> Iterator[Metric]:
    """Yield the gauges of outbox and dead letters."""
    states = [(("unpublished",), size.unpublished), (("published",), size.jobs - size.unpublished)]
    yield _gauge("outbox_jobs", "Jobs in the outbox, by state", ("state",), states)
    yield _single("outbox_age_seconds", "How long the oldest job that was never published waits", size.age)
    yield _single("dead_letters", "Dead letters that nobody has dealt with", dead_letters)


def of_broker(depths: list[tuple[str, str, int]], unacked: int | None, ages: Mapping[str, float]) -> Iterator[Metric]:
    """Yield the gauges of the queues: messages by queue and state, unacknowledged ones, and ages by queue."""
    yield _gauge(
        "queue_messages", "Messages in a queue, all priorities: waiting, or claimed in this moment",
        ("queue", "state"), (((queue, state), count) for queue, state, count in depths),
    )  # fmt: skip
    if ages:
        values = (((queue,), age) for queue, age in ages.items())
        yield _gauge("queue_oldest_seconds", "How long a queue's oldest message has waited", ("queue",), values)
    if unacked is not None:
        yield _single("unacked_messages", "Messages that workers have taken and not acknowledged", unacked)


def of_imports(imports: Iterable[ImportHealth], schedules_age: float | None) -> Iterator[Metric]:
    """Yield the gauges of each import, and that of beat's schedules where there are any."""
    states = [((state.name,), state) for state in imports]
    yield _gauge(
        "import_open_seconds", "Since the oldest run that has not ended was due",
        ("name",), ((name, state.open) for name, state in states),
    )  # fmt: skip
    yield _gauge(
        "import_last_success_timestamp_seconds", "When the last run that went well ended, Unix time",
        ("name",), ((name, state.last_success) for name, state in states if state.last_success is not None),
    )  # fmt: skip
    yield _gauge(
        "import_last_failed", "1 if the last run that was done has failed, else 0",
        ("name",), ((name, float(state.failed)) for name, state in states),
    )  # fmt: skip
    if schedules_age is not None:
        yield _single(
            "import_schedules_age_seconds", "Since beat saw to the schedule that waits longest", schedules_age
        )
