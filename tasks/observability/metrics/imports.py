"""Gauges of imports, read from PostgreSQL: every worker and relay gives the same."""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from pattern_storage.storage.import_health import ImportHealth


def of_imports(states: Iterable[ImportHealth]) -> Iterator[Metric]:
    """Yield the gauges that each import has."""
    waits = GaugeMetricFamily(
        "pattern_storage_import_open_seconds", "Since the oldest run that has not ended was due", labels=["name"]
    )
    success = GaugeMetricFamily(
        "pattern_storage_import_last_success_timestamp_seconds", "When the last run that went well ended, Unix time",
        labels=["name"],
    )  # fmt: skip
    failed = GaugeMetricFamily(
        "pattern_storage_import_last_failed", "1 if the last run that was done has failed, else 0", labels=["name"]
    )
    for state in states:
        waits.add_metric([state.name], state.open)
        failed.add_metric([state.name], float(state.failed))
        if state.last_success is not None:
            success.add_metric([state.name], state.last_success)
    yield from (waits, success, failed)


def of_schedules(age: float | None) -> Iterator[Metric]:
    """Yield how long ago beat has seen to its schedules; nothing where there are none."""
    if age is not None:
        yield GaugeMetricFamily(
            "pattern_storage_import_schedules_age_seconds", "Since beat saw to the schedule that waits longest",
            value=age,
        )  # fmt: skip
