"""Celery's handler of storage tasks' messages, which gives plain jobs to the grouper by a shorter way.

Whatever has more than a plain job, such as an ETA, a chord or a rate limit, goes Celery's own way, whose features are
not built a second time.
"""

import logging
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.app import trace
from celery.worker import state
from celery.worker import strategy as celery_strategy

from pattern_storage.tasks.worker.group.grouper import Grouper, grouper_of
from pattern_storage.tasks.worker.plain_message import TASKS, is_plain
from pattern_storage.tasks.worker.plain_request import PlainRequest


class GroupStrategy:
    """Handles the messages of one task on one connection: `receive` takes those of plain jobs, Celery all others."""

    def __init__(self, task: Any, app: Any, consumer: Any, grouper: Grouper, handler: Callable[..., Any]) -> None:
        self._task, self._consumer, self._grouper = task, consumer, grouper
        #: Celery calls the strategy as the handler of a message.
        self._handler = handler
        self._request = PlainRequest.of_task(task, app, consumer, grouper.in_loop)
        self._revoked = consumer.controller.state.revoked
        self._logs = celery_strategy.logger.isEnabledFor(logging.INFO)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Handle any message as Celery does."""
        return self._handler(*arguments, **options)

    def receive(self, message: Any) -> bool:
        """Take the message of a plain job; return whether it was one."""
        consumer = self._consumer
        if (
            not is_plain(message)
            # One that a pool process has executed was not revoked when it began.
            or (message.headers["id"] in self._revoked and not self._grouper.diverts)
            or (not consumer.disable_rate_limits and consumer.task_buckets[self._task.name])
            # Each acknowledgement of Celery's then widens the prefetch again, after the connection was lost.
            or (consumer.restart_count > 0 and not consumer._maximum_prefetch_restored)
        ):
            return False
        request = self._request(message)
        if self._logs:
            fields = {"id": request.id, "name": request.name, "args": request.argsrepr, "kwargs": "", "eta": None}
            celery_strategy.logger.info(trace.LOG_RECEIVED, fields, extra={"data": fields})
        if signals.task_received.receivers:
            signals.task_received.send(sender=consumer, request=request)
        request.on_received()
        state.task_reserved(request)
        for callback in consumer.on_task_message:
            callback(request)
        self._grouper.add(request)
        return True


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Return the handler of a storage task's messages; Celery calls this for each connection."""
    handler: Callable[..., Any] = celery_strategy.default(task, app, consumer, **options)
    grouper = grouper_of(consumer) if task.name in TASKS else None
    return handler if grouper is None else GroupStrategy(task, app, consumer, grouper, handler)
