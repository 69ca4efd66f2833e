"""Worker bootstep of metrics: opens the endpoint before any child is forked."""

from typing import Any

from celery import bootsteps

from pattern_storage.config.settings import environment_settings
from pattern_storage.tasks.observability import metrics


class Endpoint(bootsteps.Step):
    """Refuses to start a worker whose metrics nobody could read. Raises SettingsInvalid."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        metrics.open_endpoint(environment_settings(), queues=lambda: list(worker.app.amqp.queues.consume_from))
