"""Metrics for Prometheus, which docs/metrics.md lists.

All parts of the program call these functions. They do nothing, and prometheus_client is not even imported, unless this
process, or the worker it was forked from, has opened an endpoint (PATTERN_STORAGE_METRICS_PORT).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from pattern_storage.config.settings import Settings

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool

    from pattern_storage.tasks.observability.metrics.recorder import Recorder

__all__ = ["broker_failed", "imported", "observer", "open_endpoint", "relayed", "watch_pool"]

_recorder: "Recorder | None" = None


def open_endpoint(settings: Settings, queues: Callable[[], Collection[str]] = tuple) -> None:
    """Serve this process's metrics, and those of its children, if the settings say so.

    `queues` returns the queues that this process takes jobs from. To be called before any fork. Raises SettingsInvalid
    if the address cannot be listened on.
    """
    global _recorder
    if settings.metrics_port and _recorder is None:
        # Imported only here: a process that measures nothing does not pay for it.
        from pattern_storage.tasks.observability.metrics.endpoint import serve

        _recorder = serve(settings, queues)


def observer() -> Callable[[str, float, str], None] | None:
    """Return the function to which the effect node reports its measurements; None in a process without metrics."""
    return None if _recorder is None else _recorder.observe


def watch_pool(pool: "AsyncConnectionPool[Any]", loop: asyncio.AbstractEventLoop) -> None:
    """Measure this process's connection pool once a second, on the event loop that it is opened on."""
    if _recorder is not None:
        _recorder.watch_pool(pool, loop)


def relayed(published: int, refused: int) -> None:
    """Count jobs of the outbox that were published, and those that were refused for good."""
    if _recorder is not None:
        _recorder.relayed(published, refused)


def broker_failed() -> None:
    """Count a call that could not send jobs, because the broker was down, silent or refused them."""
    if _recorder is not None:
        _recorder.broker_failed()


def imported(name: str, *, rows: Mapping[str, int]) -> None:
    """Count the rows of one run of an import, by outcome: `read`, `inserted`, `updated`, `skipped`, `rejected`."""
    if _recorder is not None:
        _recorder.imported(name, rows)
