"""What PostgreSQL knows of imports: every worker and relay says the same of them, whoever ran them."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from storage.import_runs import Schedule
from storage.import_states import ImportState
from tasks.imports.schedule import read_schedule


def of_imports(states: Iterable[ImportState]) -> Iterator[Metric]:
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


def of_schedules(schedules: Iterable[Schedule], now: datetime) -> Iterator[Metric]:
    """Yield how long beat has left undecided what was due; nothing where there are no schedules."""
    ages = [_undecided(schedule, now) for schedule in schedules]
    if ages:
        yield GaugeMetricFamily(
            "pattern_storage_import_schedules_age_seconds", "How long the oldest due time waits for beat's decision",
            value=max(ages),
        )  # fmt: skip


def _undecided(schedule: Schedule, now: datetime) -> float:
    """Return the seconds since the schedule's first due time that no beat has decided, 0 if there is none."""
    try:
        due = read_schedule(schedule.schedule).after(schedule.decided_until)
    except ValueError:  # of another release; the beat that wrote it knows
        return 0.0
    return 0.0 if due is None else max((now - due).total_seconds(), 0.0)
