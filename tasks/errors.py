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

from pattern_storage.vocabulary import ErrorType

#: What the events of a dead letter call its failure.
DEAD_LETTER = "StorageDeadLetter"


class JobError(Exception):
    """Base class of all errors around a job."""


class StorageOperationFailed(JobError):
    """The operation did not happen. Celery shows the job as FAILURE; the client returns the ModelResult.

    Args:
        result: the `ModelResult` as JSON types, which is how it travels through the result backend.
    """

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        super().__init__(result)

    @property
    def error_type(self) -> str:
        """What kind of failure it was."""
        return str(self.result["metadata"]["error_type"])

    def __str__(self) -> str:
        return f"{self.error_type}: {self.result['error']}"

    def __repr__(self) -> str:
        # What Flower and the worker's log show. A dead letter is no failure among others.
        name = DEAD_LETTER if self.result["metadata"].get("dead_letter") else type(self).__name__
        return f"{name}({self})"


class StorageUnavailable(StorageOperationFailed):
    """The operation could not be done now; the reason shows while the job waits for its next attempt."""


class ImportFailed(JobError):
    """An import wrote nothing.

    Args:
        error_type: what went wrong, for programs; docs/imports.md lists them.
        sentence: the same for people.
        fields: what the result's metadata says besides, as JSON types.
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
        timeout: seconds that were waited.
        status: where it is.
        others: how many more of the jobs that were waited for have no result either.
    """

    def __init__(self, correlation_id: UUID, timeout: float, status: str, others: int = 0) -> None:
        self.correlation_id = correlation_id
        self.timeout = timeout
        self.status = status
        self.others = others
        more = f", and {others} more have none" if others else ""
        super().__init__(f"job {correlation_id} has no result after {timeout:g} s{more}; its status is {status}")


class QueueUnreadable(JobError, ValueError):
    """This broker does not show what waits in a queue; the text is one clear sentence."""


class ServiceUnavailable(JobError, ConnectionError):
    """A server that the client needs is down or refuses."""


class BrokerUnavailable(ServiceUnavailable):
    """The broker does not answer. Whether a job sent at that moment was accepted is not known."""


class ResultBackendUnavailable(ServiceUnavailable):
    """The result backend does not answer; the job itself is not touched by that."""


def error_type_of(exception: str) -> ErrorType:
    """Return the `error_type` of a job that ended with an exception of this name instead of a result."""
    if exception == "WorkerLostError":
        return ErrorType.WORKER_LOST
    return ErrorType.TIME_LIMIT_EXCEEDED if "TimeLimit" in exception else ErrorType.INTERNAL_ERROR
