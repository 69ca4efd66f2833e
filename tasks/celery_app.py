"""The Celery application: `celery -A pattern_storage worker|beat|flower`."""

import os
from functools import cached_property
from typing import Any

from celery import Celery, bootsteps

from pattern_storage.config.celeryconfig import celery_settings
from pattern_storage.config.settings import SettingsInvalid, environment_settings
from pattern_storage.config.urls import complete
from pattern_storage.tasks.celery_command import OPTION
from pattern_storage.tasks.database import check_database, check_database_url
from pattern_storage.tasks.observability import (
    logs,  # noqa: F401  # connects to Celery's signals
    traces,
)
from pattern_storage.tasks.redis_server import check_redis

_RESULT_BACKEND = "pattern_storage.tasks.worker.result_backend"
#: Names of our result backend for each scheme of its URL: Celery imports it when it needs it.
BACKENDS = {
    "redis": f"{_RESULT_BACKEND}:StorageRedisBackend",
    "rediss": f"{_RESULT_BACKEND}:StorageRedisBackend",
    "sentinel": f"{_RESULT_BACKEND}:StorageSentinelBackend",
}


class StorageCelery(Celery):
    """Celery application that reads the settings on first use: printing --help needs no server."""

    events_cls = "pattern_storage.tasks.worker.events:Events"

    @cached_property
    def Beat(self) -> Any:  # noqa: N802  # Celery's name
        """Class of `celery beat`, which reads the imports file first."""
        return self.subclass_with_self("pattern_storage.tasks.imports.plan.beat:CheckedBeat")  # type: ignore[arg-type]  # a name will do

    def on_configure(self) -> None:  # type: ignore[override]  # Celery takes a method for the signal
        """Configure from the environment. Raises SettingsInvalid each time, not only the first, if it is wrong."""
        settings = environment_settings()
        check_database_url(settings)
        _agree_with("CELERY_BROKER_URL", settings.broker)
        _agree_with("CELERY_RESULT_BACKEND", settings.result_backend)
        self.config_from_object(celery_settings(settings))
        self.loader.override_backends = BACKENDS
        if settings.broker_kind.is_redis:
            self.steps["consumer"].add("pattern_storage.tasks.worker.lease:LeaseRenewal")
        if settings.safe_transport and settings.broker_kind.is_redis:
            # Not for `Sender`, which never receives.
            from pattern_storage.tasks.transport.bootstep import ClaimingTransport

            self.steps["worker"].add(ClaimingTransport)
            if settings.group_execution:
                self.steps["consumer"].add("pattern_storage.tasks.worker.pool.pool_jobs:PoolJobs")
        if settings.group_execution:
            self.steps["worker"].add("pattern_storage.tasks.worker.pool.pool:GroupPool")
        if settings.metrics_port:
            self.steps["worker"].add("pattern_storage.tasks.observability.bootsteps:Endpoint")
        if traces.wanted(settings):
            self.steps["worker"].add("pattern_storage.tasks.observability.bootsteps:Tracing")


def _agree_with(variable: str, ours: str) -> None:
    """Raise SettingsInvalid where Celery, which prefers this variable, would use another server than the client.

    Celery's own command line sets it, from `--broker` or BROKER_URL.
    """
    if (theirs := os.environ.get(variable)) is None:
        return
    if complete(theirs) != ours:
        raise SettingsInvalid(f"{variable} is set and would override our settings; unset it")
    os.environ[variable] = ours


class UsableServers(bootsteps.Step):
    """Check at the start of a worker that PostgreSQL and Redis can be used. Raises SettingsInvalid.

    Without it a worker would fail each of its jobs.
    """

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        settings = environment_settings()
        check_database(settings)
        check_redis(settings)


app = StorageCelery("pattern-storage")
app.steps["worker"].add(UsableServers)
app.steps["worker"].add("pattern_storage.tasks.worker.replacement:Replacement")
app.steps["worker"].add("pattern_storage.tasks.imports.plan.beat:EmbeddedBeatCheck")
app.steps["consumer"].add("pattern_storage.tasks.worker.events:FlushEvents")
app.steps["consumer"].add("pattern_storage.tasks.worker.queue_pauses:QueuePauses")
app.steps["consumer"].add("pattern_storage.tasks.worker.stale_bindings:StaleBindings")
app.user_options["preload"].add(OPTION)
