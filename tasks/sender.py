"""Celery application that only sends, for clients, commands and metrics."""

from typing import Any

from celery import Celery

from pattern_storage.config.celeryconfig import celery_settings
from pattern_storage.config.settings import Settings


class Sender(Celery):
    """Sends to the broker of `settings`, not of CELERY_BROKER_URL, which may belong to the caller's own Celery.

    It never becomes the `current_app`, so no task decorator finds it.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__("pattern-storage-client", set_as_current=False)
        self._broker = settings.broker
        self.conf.update(celery_settings(settings))

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        """Return a connection to the broker of the settings."""
        return super().connection_for_write(url or self._broker, **options)

    connection_for_read = connection_for_write


def create_app(settings: Settings) -> Celery:
    """Return an application that only sends."""
    return Sender(settings)
