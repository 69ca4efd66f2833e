"""A real Celery worker in a thread of the test process, on the servers of the tests.

Celery and the effect node's pool are configured once in a process, so a process has one such worker with one database,
which is emptied between tests.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

import psycopg
from psycopg.sql import SQL, Identifier

from pattern_storage.extras import require

if TYPE_CHECKING:
    from pattern_storage.config.settings import Settings


class ThreadWorker:
    """A running worker, its database, and the Redis of its queues and results."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.database_url, self.redis_url = database_url, redis_url

    def reset(self) -> None:
        """Remove all rows and all waiting jobs, for the next test."""
        from pattern_storage.storage import schema
        from pattern_storage.tasks.sender import create_app

        with closing(create_app(self._settings())) as app:
            app.control.purge()
        tables = SQL(", ").join(map(Identifier, schema.tables()))
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(SQL("TRUNCATE {}").format(tables))

    def run_outbox(self) -> int:
        """Publish the jobs of the outbox as a relay does; return how many there were."""
        from pattern_storage.tasks.relay import Relay

        return Relay(self._settings()).sweep()

    def _settings(self) -> "Settings":
        from pattern_storage.config.settings import load_settings

        return load_settings(database_url=self.database_url, redis_url=self.redis_url)


@contextmanager
def start_worker(database_url: str, redis_url: str) -> Iterator[ThreadWorker]:
    """Run a worker in a thread, on a migrated database; it stops at the end of the block.

    Raises ExtraMissing without the extra `testing`, and RuntimeError if this process has had one with other servers.
    """
    require("a worker for tests", "worker", install="testing")
    with patch.dict(os.environ, {"DATABASE_URL": database_url, "REDIS_URL": redis_url}):
        from celery.contrib.testing.worker import TestWorkController, _start_worker_thread

        from pattern_storage.config.settings import environment_settings
        from pattern_storage.tasks.celery_app import app
        from pattern_storage.tasks.worker import runtime

        settings = environment_settings()
        if (settings.database, settings.broker) != (database_url, redis_url):
            raise RuntimeError("this process is configured for other servers; there is one worker in a process")
        with _start_worker_thread(
            app, 2, "threads", "ERROR", WorkController=TestWorkController, perform_ping_check=False
        ):
            yield ThreadWorker(database_url, redis_url)
        runtime.close()
