"""Exceptions around a job, as one tree.

    JobError
    ├── StorageOperationFailed          in the worker: the operation failed, its ModelResult inside
    │   └── StorageUnavailable          in the worker: it may succeed later, the job is retried
    ├── ImportFailed                    an import wrote nothing; error_type says why
    │   ├── ImportBroken                permanent: the same source would fail again
    │   └── ImportDelayed               it may succeed later, the run is retried
    ├── JobTimeout                      in the client: no result in time
    ├── QueueUnreadable                 this broker does not show what waits
    └── ServiceUnavailable              in the client: a server cannot be reached
        ├── BrokerUnavailable
        └── ResultBackendUnavailable

Names of errors say what happened, as in `storage/errors.py`.
"""

from typing import Any
from uuid import UUID

from pattern_storage.storage.picklable_error import PicklableError
from pattern_storage.vocabulary import ErrorType, JobState

#: Name of a dead letter's exception in events.
DEAD_LETTER = "StorageDeadLetter"


class JobError(PicklableError):
    """Base class of all errors around a job."""


class StorageOperationFailed(JobError):
    """The operation did not happen. Celery shows the job as FAILURE; the client returns the ModelResult.

    Args:
        result: the `ModelResult` as JSON types, as it is stored in the result backend.
    """

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        super().__init__(result)

    @property
    def error_type(self) -> str:
        """The `error_type` of the result."""
        return str(self.result["metadata"]["error_type"])

    def __str__(self) -> str:
        return f"{self.error_type}: {self.result['error']}"

    def __repr__(self) -> str:
        # Shown by Flower and the worker's log, which tell dead letters from other failures.
        name = DEAD_LETTER if self.result["metadata"].get("dead_letter") else type(self).__name__
        return f"{name}({self})"


class StorageUnavailable(StorageOperationFailed):
    """The operation could not be done now; the reason shows while the job waits for its next attempt."""


class ImportFailed(JobError):
    """An import wrote nothing.

    Args:
        error_type: kind of the error, for programs; docs/imports.md lists them.
        sentence: the error for people.
        fields: further metadata of the result, as JSON types.
    """

    def __init__(self, error_type: ErrorType, sentence: str, **fields: Any) -> None:
        self.error_type = error_type
        self.fields = fields
        super().__init__(sentence)


class ImportBroken(ImportFailed):
    """The same source would fail again."""


class ImportDelayed(ImportFailed):
    """The source cannot be read now, or is being written at this moment."""


class JobTimeout(JobError, TimeoutError):
    """The job has no result yet; it may still get one.

    Args:
        correlation_id: the job.
        timeout: seconds that the caller has waited.
        status: the job's status.
        others: number of other awaited jobs without a result.
    """

    def __init__(self, correlation_id: UUID, timeout: float, status: str, others: int = 0) -> None:
        self.correlation_id = correlation_id
        self.timeout = timeout
        self.status = status
        self.others = others
        more = f", and {others} more have none" if others else ""
        hint = (
            "no job is known under this id, or its result has expired"
            if status == JobState.UNKNOWN
            else "the job goes on; is a worker running? 'pattern-storage doctor' tells"
        )
        super().__init__(
            f"job {correlation_id} has no result after {timeout:g} s{more}; its status is {status} ({hint})"
        )


class QueueUnreadable(JobError, ValueError):
    """This broker does not show the messages of a queue; the text is one clear sentence."""


class ServiceUnavailable(JobError, ConnectionError):
    """A server that the client needs is down or refuses its requests."""


class BrokerUnavailable(ServiceUnavailable):
    """The broker does not answer. It may have accepted a job that was sent at that moment."""


class ResultBackendUnavailable(ServiceUnavailable):
    """The result backend does not answer; this does not affect the job itself."""


def error_type_of(exception: str) -> ErrorType:
    """Return the `error_type` of a job that ended with an exception of this name, without a result."""
    if exception == "WorkerLostError":
        return ErrorType.WORKER_LOST
    return ErrorType.TIME_LIMIT_EXCEEDED if "TimeLimit" in exception else ErrorType.INTERNAL_ERROR
