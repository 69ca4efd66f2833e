"""Base of all tasks that end as a `ModelResult`: how an attempt ends as RETRY, REVOKED or FAILURE."""

from typing import Any, NoReturn

from celery import Task, signals
from celery.exceptions import Ignore, Reject

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.errors import StorageOperationFailed, StorageUnavailable
from pattern_storage.tasks.worker import last_failure
from pattern_storage.vocabulary import ErrorType


class ResultTask(Task[Any, Any]):
    """A task whose outcome is a `ModelResult`, and whose attempts are counted in PostgreSQL."""

    abstract = True
    # Attempts are counted in PostgreSQL, where a killed worker cannot lose them.
    max_retries = None
    # Seconds until a job whose process was killed runs again; Celery's own default is three minutes.
    default_retry_delay = 1
    # A failed operation is a result, not a fault of the worker: its log has no traceback.
    throws = (StorageOperationFailed,)

    def end_as_retry(self, result: ModelResult, delay: float, **options: Any) -> NoReturn:
        """End this attempt as RETRY, to begin again after `delay` seconds.

        If the new message cannot be sent, the old one goes back to the queue; Celery would drop it.
        """
        retry: Any = self.retry
        headers = last_failure.headers(self.request, result)
        try:
            raise retry(exc=StorageUnavailable(result.to_dict()), countdown=delay, headers=headers, **options)
        except Reject as error:
            raise Reject(error, requeue=True) from error

    def end(self, result: ModelResult) -> dict[str, Any]:
        """Return the result as JSON types, or raise the exception by which Celery sets FAILURE or REVOKED."""
        if result.metadata.get("error_type") == ErrorType.REVOKED:
            self._end_as_revoked(result)
        if not result.success:
            raise StorageOperationFailed(result.to_dict())
        return result.to_dict()

    def _end_as_revoked(self, result: ModelResult) -> NoReturn:
        """End a cancelled job as REVOKED, in the result backend and in Flower."""
        self.backend.mark_as_revoked(str(self.request.id), str(result.error), request=self.request)
        self.send_event("task-revoked", terminated=False, signum=None, expired=False)
        signals.task_revoked.send(sender=self, request=self.request, terminated=False, signum=None, expired=False)
        raise Ignore
