"""Celery's handler of storage tasks' messages: requests go to the grouper, those of plain jobs by a shorter way."""

import logging
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.app import trace
from celery.worker import state
from celery.worker import strategy as celery_strategy

from pattern_storage.tasks.worker.events import Dispatcher
from pattern_storage.tasks.worker.group.grouper import Grouper, grouper_of
from pattern_storage.tasks.worker.group.request import PlainRequest, is_plain


class GroupingConsumer:
    """The consumer as Celery's handler sees it, except that the grouper takes the requests."""

    def __init__(self, consumer: Any, take: Callable[[Any], None]) -> None:
        self._consumer = consumer
        self.on_task_request = take

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class GroupStrategy:
    """Handles the messages of one task on one connection: Celery's handler, and `receive` for those of plain jobs."""

    def __init__(self, task: Any, app: Any, consumer: Any, grouper: Grouper, handler: Callable[..., Any]) -> None:
        self._task, self._consumer, self._grouper, self._handler = task, consumer, grouper, handler
        self._request = PlainRequest.of_task(task, app, consumer, grouper.in_loop)
        self._revoked = consumer.controller.state.revoked
        dispatcher = consumer.event_dispatcher
        self._is_able = dispatcher is None or isinstance(dispatcher, Dispatcher)
        self._logs = celery_strategy.logger.isEnabledFor(logging.INFO)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Handle any message as Celery does."""
        return self._handler(*arguments, **options)

    def receive(self, message: Any) -> bool:
        """Take the message of a plain job; return whether it was one. What is no such message is Celery's to handle."""
        consumer = self._consumer
        if (
            not self._is_able
            or not is_plain(message)
            or message.headers["id"] in self._revoked
            or (not consumer.disable_rate_limits and consumer.task_buckets[self._task.name])
            # Each acknowledgement then widens the prefetch again, after the connection was lost.
            or (consumer.restart_count > 0 and not consumer._maximum_prefetch_restored)
        ):
            return False
        request = self._request(message)
        if self._logs:
            self._log(request)
        if signals.task_received.receivers:
            signals.task_received.send(sender=consumer, request=request)
        request.on_received()
        state.task_reserved(request)
        for callback in consumer.on_task_message:
            callback(request)
        self._grouper.add_plain(request)
        return True

    @staticmethod
    def _log(request: Any) -> None:
        told = {"id": request.id, "name": request.name, "args": request.argsrepr, "kwargs": "", "eta": None}
        celery_strategy.logger.info(trace.LOG_RECEIVED, told, extra={"data": told})


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return how the worker handles messages of a storage task; Celery calls this for each connection."""
    grouper = grouper_of(consumer)
    if grouper is None:
        return celery_strategy.default(task, app, consumer, **options)
    handler = celery_strategy.default(task, app, GroupingConsumer(consumer, grouper.add), **options)
    return GroupStrategy(task, app, consumer, grouper, handler)
