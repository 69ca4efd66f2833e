"""Celery tasks around the storage layer: application, client, worker, transport, imports, Flower, command line.

In a checkout `celery -A tasks ...` finds the application here; it is the one of `celery -A pattern_storage ...`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pattern_storage.tasks.celery_app import app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    """Import the application on first use: most modules of this package do not need it."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pattern_storage.tasks.celery_app import app

    return app
