"""Storage jobs: the Celery application, its tasks, and the client that applications import."""

from tasks.app import app

__all__ = ["app"]
