"""The worker's view of an import's message: a run that is handed back has not failed."""

from typing import Any
from uuid import UUID

from celery.worker.request import Request

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage import import_runs
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.client.database import Database, run_sync

logger = get_logger(__name__)


class ImportRequest(Request):
    """Takes an attempt off the count when a worker that stops, or lost its broker, gives a run back to the queue.

    Deployments would use up a long run's attempts otherwise: each stops the worker before the run has ended.
    """

    def cancel(self, *arguments: Any, **options: Any) -> None:
        """Do what Celery does to a job that it hands back, then note that this was none of the run's doing."""
        super().cancel(*arguments, **options)
        try:
            run_id = UUID(str(self.id))
            run_sync(Database(environment_settings()).run(lambda connection: import_runs.hand_back(connection, run_id)))
        except (ValueError, StorageError) as error:
            logger.warning("cannot note that import run %s was handed back: %s", self.id, error)
