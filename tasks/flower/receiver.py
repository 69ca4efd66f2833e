"""Receiver of events for Flower: validates each, so that an invalid one does not cost the others."""

import time
from typing import Any

from celery.events import EventReceiver
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.flower.event_validation import validated
from pattern_storage.tasks.reconnect import ReconnectBackoff

logger = get_logger(__name__)


class ValidatingReceiver(EventReceiver):
    """Celery's receiver of events, which would end at the first event that it does not understand."""

    accept: Any
    # Shared by all receivers of the process: after an error that is not waited for here Flower makes another one.
    _backoff = ReconnectBackoff("hears no events", "flower")

    def capture(self, *arguments: Any, **options: Any) -> None:
        """Receive events for ever. While the broker is away or refuses, wait, and log that once."""
        while True:
            try:
                return super().capture(*arguments, **options)
            except (RedisError, KombuError, OperationalError, OSError) as error:
                time.sleep(self._backoff.failed(error))

    def on_connection_error(self, exc: Exception, interval: float) -> None:
        """Log that the broker cannot be reached."""
        self._backoff.failed(exc)

    def on_consume_ready(self, *arguments: Any, **options: Any) -> None:
        """Log that events are received again."""
        self._backoff.succeeded()
        super().on_consume_ready(*arguments, **options)

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:  # noqa: N803  # Celery's name for it
        """Return Celery's consumer of events, such that it drops what it cannot decode."""
        consumers: list[Any] = super().get_consumers(Consumer, channel)
        for consumer in consumers:
            consumer.on_decode_error = self._drop
        return consumers

    def _drop(self, _: Any, error: Exception) -> None:
        logger.warning("dropped an event that cannot be decoded (%s)", type(error).__name__)

    def _receive(self, body: Any, message: Any, **_: Any) -> None:
        # One message holds one event, or a list of them.
        for event in body if isinstance(body, list) else [body]:
            if (checked := validated(event)) is not None:
                self.process(*self.event_from_message(checked))
