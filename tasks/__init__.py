"""Storage jobs: the Celery application, its tasks, and the client that applications import."""

from config import urls
from storage import conninfo
from tasks.app import app

# Config knows no PostgreSQL, so it is told here how to ask.
urls.ask_libpq = conninfo.complaint

__all__ = ["app"]
