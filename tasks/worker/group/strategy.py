"""Celery's handler of messages, whose requests go to the grouper."""

from collections.abc import Callable
from typing import Any

from celery.worker.strategy import default

from pattern_storage.tasks.worker.group.grouper import grouper_of


class GroupingConsumer:
    """The consumer as Celery's handler sees it, except that the grouper takes the requests."""

    def __init__(self, consumer: Any, take: Callable[[Any], None]) -> None:
        self._consumer = consumer
        self.on_task_request = take

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return how the worker handles messages of a storage task; Celery calls this for each connection."""
    grouper = grouper_of(consumer)
    handled = consumer if grouper is None else GroupingConsumer(consumer, grouper.add)
    handler: Callable[..., Any] = default(task, app, handled, **options)
    return handler
