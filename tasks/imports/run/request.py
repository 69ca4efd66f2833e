"""Celery request of an import: requeueing at a worker's shutdown does not count as an attempt."""

import time
from typing import Any
from uuid import UUID

from celery.worker.request import Request

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage import import_runs
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.database import Database, run_sync

logger = get_logger(__name__)


class ImportRequest(Request):
    """Takes an attempt off the count when a worker that stops, or has lost its broker, requeues a run.

    Otherwise a long run would be out of attempts after a few deployments, each of which stops the worker.
    """

    _request_dict: dict[str, Any]

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        # As that of a storage job.
        self._request_dict["claimed_at"] = time.time()

    def cancel(self, *arguments: Any, **options: Any) -> None:
        """Requeue the run as Celery does, then take its attempt off the count."""
        super().cancel(*arguments, **options)
        try:
            run_id = UUID(str(self.id))
            run_sync(
                Database(environment_settings()).run(lambda connection: import_runs.uncount_attempt(connection, run_id))
            )
        except (ValueError, StorageError) as error:
            logger.warning("cannot note that import run %s was requeued: %s", self.id, error)
