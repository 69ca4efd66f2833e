"""Metrics for Prometheus, which docs/metrics.md lists.

Everything that runs calls these functions. They do nothing, and prometheus_client is not even imported, unless this
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

    `queues` returns those that this process takes jobs from.

    Call it before any fork. Raises SettingsInvalid if the address cannot be listened on.
    """
    global _recorder
    if settings.metrics_port and _recorder is None:
        # Only here: a process that measures nothing does not pay for the import.
        from pattern_storage.tasks.observability.metrics.endpoint import serve

        _recorder = serve(settings, queues)


def observer() -> Callable[[str, float, str], None] | None:
    """Return what the effect node tells its measurements to; None if nobody wants them."""
    return None if _recorder is None else _recorder.observe


def watch_pool(pool: "AsyncConnectionPool[Any]", loop: asyncio.AbstractEventLoop) -> None:
    """Measure this process's connection pool once a second, on the event loop that it is opened on."""
    if _recorder is not None:
        _recorder.watch_pool(pool, loop)


def relayed(published: int, refused: int) -> None:
    """Note how many jobs of the outbox were published, and how many could never be."""
    if _recorder is not None:
        _recorder.relayed(published, refused)


def broker_failed() -> None:
    """Note that jobs could not be sent, because the broker was down, silent or refused them."""
    if _recorder is not None:
        _recorder.broker_failed()


def imported(name: str, *, rows: Mapping[str, int]) -> None:
    """Note one run of an import.

    Args:
        name: the import's name in its definition.
        rows: how many rows by what became of them: `read`, `inserted`, `updated`, `skipped`, `rejected`.
    """
    if _recorder is not None:
        _recorder.imported(name, rows)
