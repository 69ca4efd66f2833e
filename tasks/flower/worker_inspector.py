"""Flower's questions to workers. That the broker is away or refuses is logged once, not for each question."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from flower.inspector import Inspector
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from pattern_storage.tasks.reconnect import ReconnectBackoff

# Shared by the process: an opened page asks up to eight questions at once, each in a thread of its own.
_backoff = ReconnectBackoff("cannot ask workers", "flower")
_lock = threading.Lock()


def answers_to(question: Callable[[], Any]) -> Any:
    """Return the workers' answers, or None if the broker is away or refuses."""
    try:
        answers = question()
    except (RedisError, KombuError, OperationalError, OSError) as error:
        with _lock:
            _backoff.failed(error)
        return None
    with _lock:
        _backoff.succeeded()
    return answers


async def enable_events(events: Any) -> None:
    """Have workers that were started after Flower send their events, as `flower.events.Events` does every 5 seconds."""
    await events.io_loop.run_in_executor(None, partial(answers_to, events.capp.control.enable_events))


class WorkerInspector(Inspector):  # type: ignore[misc]  # Flower has no types
    """Flower's inspector of workers."""

    def _inspect(self, method: str, workername: str | None) -> None:
        inspect = self.capp.control.inspect(timeout=self.timeout, destination=[workername] if workername else None)
        options = {"safe": True} if method == "active" else {}
        # Without an answer there is nothing to log: Flower's page says so.
        for worker, answer in (answers_to(partial(getattr(inspect, method), **options)) or {}).items():
            if isinstance(answer, dict | list):
                self.io_loop.add_callback(partial(self._on_update, worker, method, answer))
