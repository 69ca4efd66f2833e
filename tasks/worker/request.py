"""The worker's view of a job: its arguments described instead of printed."""

import time
from typing import Any

from celery.concurrency.base import BasePool
from celery.worker import state
from celery.worker.request import Request

from pattern_storage.storage.logs import correlated, get_logger
from pattern_storage.tasks.description import describe_call

logger = get_logger(__name__)


def can_terminate(pool: Any) -> bool:
    """Whether a pool can end a job that has begun. Celery's threads and solo raise NotImplementedError."""
    # The pool of processes has its own as an attribute of the object.
    return getattr(pool.terminate_job, "__func__", None) is not BasePool.terminate_job


class StorageRequest(Request):
    """A request that shows `describe_contract(...)` as the arguments of a job, whichever application sent it.

    A plain `send_task` puts the `repr` of its arguments into the message's headers, template code and all;
    Celery passes that on to logs, events and Flower. Our own client sends the description to begin with.
    """

    # Unknown to celery-types.
    _already_revoked: bool
    _already_cancelled: bool
    _apply_result: Any
    _terminate_on_ack: Any
    _request_dict: dict[str, Any]

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        # For the ledger; a message from the queue may say anything.
        self._request_dict["claimed_at"] = time.time()
        if self.kwargsrepr:
            self._describe()

    def _describe(self) -> None:
        """Put the description in the place of the producer's `repr`, for the pool process as well."""
        self._argsrepr, self._kwargsrepr = describe_call(str(self.type), self.kwargs), ""
        self._request_dict |= {"argsrepr": self._argsrepr, "kwargsrepr": ""}

    def info(self, safe: bool = False) -> Any:
        """Return what `inspect active` and Flower's page of a worker show."""
        return super().info(safe=True)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  # Celery's name for it
        """Send an event that names the queue: only a producer's events do otherwise, and few send any."""
        super().send_event(type, routing_key=self.delivery_info.get("routing_key"), **fields)

    def on_failure(self, *failure: Any, **options: Any) -> Any:
        """Handle a job whose process failed or was lost as Celery does, with the job's id in the log."""
        with correlated(str(self.id)):
            return super().on_failure(*failure, **options)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        """Handle a job that passed a time limit as Celery does, with the job's id in the log."""
        with correlated(str(self.id)):
            return super().on_timeout(soft, timeout)

    def maybe_expire(self) -> None:
        """Leave it to the task, which asks the ledger (`tasks.worker.expiry`).

        Celery would call the job REVOKED, though an earlier delivery of it may have committed.
        """

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """End the job's process as Celery does, if it has one of its own."""
        if can_terminate(pool):
            super().terminate(pool, signal)
        elif self.time_start:
            self._log_that_it_goes_on()
        else:
            # Celery comes back to it when the job begins.
            self._terminate_on_ack = pool, signal

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """End the job's process in a cold shutdown as Celery does, if it has one of its own."""
        if can_terminate(pool):
            super().cancel(pool, signal, emit_retry)
        elif self.time_start:
            self._log_that_it_goes_on()

    def _log_that_it_goes_on(self) -> None:
        with correlated(str(self.id)):
            logger.warning("%s goes on to its end: only a pool of processes can end a job that has begun", self.id)

    def revoked(self) -> Any:
        """Find out whether the job was revoked as Celery does, with the job's id in the log."""
        if not (self._already_revoked or self.id in state.revoked or self.expires or self.stamped_headers):
            return False
        with correlated(str(self.id)):
            return super().revoked()
