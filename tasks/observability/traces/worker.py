"""Worker bootstep of traces: sets them up before any child is forked."""

from typing import Any

from celery import bootsteps

from pattern_storage.config.settings import environment_settings
from pattern_storage.tasks.observability import traces


class Tracing(bootsteps.Step):
    """Sets tracing up. Raises SettingsInvalid where it cannot be."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        traces.set_up(environment_settings())
