"""Flower's messages to workers, which tell once, and not for each of them, that the broker is away or refuses."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from flower.inspector import Inspector
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from pattern_storage.tasks.reconnect import ReconnectBackoff

# Of the process: an opened page asks up to eight questions at once, each in a thread of its own.
_backoff = ReconnectBackoff("cannot ask workers", "flower")
_lock = threading.Lock()


def asked(question: Callable[[], Any]) -> Any:
    """Return what workers answer; None if the broker cannot be asked now."""
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
    await events.io_loop.run_in_executor(None, partial(asked, events.capp.control.enable_events))


class WorkerInspector(Inspector):  # type: ignore[misc]  # Flower has no types
    """Flower's inspector of workers."""

    def _inspect(self, method: str, workername: str | None) -> None:
        inspect = self.capp.control.inspect(timeout=self.timeout, destination=[workername] if workername else None)
        options = {"safe": True} if method == "active" else {}
        # That none answers is shown, and nothing for the log.
        for worker, answer in (asked(partial(getattr(inspect, method), **options)) or {}).items():
            if isinstance(answer, dict | list):
                self.io_loop.add_callback(partial(self._on_update, worker, method, answer))
