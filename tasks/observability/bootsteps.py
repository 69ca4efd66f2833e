"""Worker bootsteps that open the metrics' endpoint and set tracing up, before any child is forked."""

from typing import Any

from celery import bootsteps

from pattern_storage.config.settings import environment_settings
from pattern_storage.tasks.observability import metrics, traces


class Endpoint(bootsteps.Step):
    """Opens the endpoint of metrics. Raises SettingsInvalid if its address cannot be listened on."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        metrics.open_endpoint(environment_settings(), queues=lambda: list(worker.app.amqp.queues.consume_from))


class Tracing(bootsteps.Step):
    """Sets tracing up. Raises SettingsInvalid where it cannot be."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        traces.set_up(environment_settings())
