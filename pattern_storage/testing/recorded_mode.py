"""Recorded mode: jobs are checked and logged, and nothing is sent; no server is needed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from pattern_storage.storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.explanation import did_you_mean
from pattern_storage.storage.operations import OPERATIONS
from pattern_storage.tasks.client.status import QUEUED
from pattern_storage.testing.interception import intercepted
from pattern_storage.testing.job_log import JobLog
from pattern_storage.testing.result_documents import result_document
from pattern_storage.vocabulary import ErrorType, JobState


class RecordedMode:
    """Logs jobs in `jobs`. Each is QUEUED, or has the result that `answer` has given to its operation."""

    writes_outbox = False

    def __init__(self) -> None:
        self.jobs = JobLog()
        self._answers: dict[str, ModelResult] = {}
        self._cancelled: set[UUID] = set()

    def answer(self, operation: str, result: ModelResult | dict[str, Any]) -> None:
        """Give all jobs of an operation this result: a ModelResult, or the `data` of a success.

        A job without an answer stays QUEUED, and waiting for its result raises JobTimeout at once.
        Raises ValueError if there is no such operation.
        """
        if operation not in OPERATIONS:
            raise ValueError(f"there is no operation {operation!r} to answer; {did_you_mean(operation, OPERATIONS)}")
        self._answers[operation] = result if isinstance(result, ModelResult) else ModelResult(success=True, data=result)

    def accept(self, contract: ModelContractPatternStorage) -> None:
        """See `Mode.accept`: the job is logged already."""

    def document(self, correlation_id: UUID) -> bytes | None:
        """See `Mode.document`."""
        if correlation_id in self._cancelled:
            return json.dumps({"status": JobState.REVOKED, "result": None}).encode()
        job = next((job for job in self.jobs if job.contract.correlation_id == correlation_id), None)
        if job is None:
            return None
        answer = self._answers.get(job.contract.operation)
        if answer is None:
            return QUEUED.encode()
        named = {"correlation_id": str(correlation_id), "operation": job.contract.operation, "duration_ms": 0.0}
        return result_document(answer.model_copy(update={"metadata": named | answer.metadata}))

    def cancel(self, correlation_id: UUID) -> ModelResult:
        """See `Job.cancel`."""
        self._cancelled.add(correlation_id)
        return ModelResult.failure(
            "The job was cancelled before it was done",
            ErrorType.REVOKED,
            correlation_id=correlation_id,
            operation=None,
            duration_ms=0.0,
        )


@contextmanager
def recorded() -> Iterator[RecordedMode]:
    """Log the jobs of every client in this process, and send nothing. Needs no server and no setting.

    The jobs of `submit_in` are logged as well, without a row in the outbox. One whose transaction has rolled back is
    removed from the log, if DATABASE_URL is a database of the same server.
    """
    mode = RecordedMode()
    with intercepted(mode):
        yield mode
