"""Receiver of events for Flower: each is validated, and none that is odd costs another."""

from typing import Any

from celery.events import EventReceiver

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.flower.event_cleaning import validated

logger = get_logger(__name__)


class ValidatingReceiver(EventReceiver):
    """Celery's receiver of events, which ends at the first that it does not understand, without doing so."""

    accept: Any

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:  # noqa: N803  # Celery's name for it
        """Return Celery's consumer of events, which drops what cannot be decoded."""
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
