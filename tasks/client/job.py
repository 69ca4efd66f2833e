"""Submitted jobs of both clients."""

from typing import TYPE_CHECKING, Any, Generic
from uuid import UUID

from pattern_storage.storage import ModelResult
from pattern_storage.storage.model_contract_pattern_storage import Data
from pattern_storage.tasks.client.call_options import check_wait
from pattern_storage.tasks.client.outgoing import Request
from pattern_storage.tasks.client.result_document import parse_progress

if TYPE_CHECKING:
    from pattern_storage.tasks.client.asynchronous import AsyncPatternStorageClient
    from pattern_storage.tasks.client.synchronous import PatternStorageClient


class Job(Generic[Data]):
    """One submitted job, known by its correlation id."""

    def __init__(self, client: "PatternStorageClient", correlation_id: UUID, request: Request | None = None) -> None:
        self._client = client
        self._request = request
        self.correlation_id = correlation_id

    def __repr__(self) -> str:
        return f"Job({str(self.correlation_id)!r})"

    def status(self) -> str:
        """Return UNKNOWN, QUEUED, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED.

        Raises ResultBackendUnavailable. PROGRESS: an import runs, see `progress`.

        UNKNOWN: nothing was submitted under this id, or another application sent it and no worker has begun it yet.
        Once it has expired in Redis, the status comes from the ledger, where DATABASE_URL is set.
        """
        return self._client._status(self.correlation_id)

    def progress(self) -> dict[str, Any] | None:
        """Return the progress of an import that runs; None for any other job, and for an import that does not run.

        `current` rows of `total` (None: unknown), `rate` in rows a second, `percent` and `seconds_left` of the
        reading, `bytes` of `bytes_total`, and the `phase`, such as merging. Raises ResultBackendUnavailable.
        """
        return parse_progress(self._client._get(self.correlation_id))

    def cancel(self) -> ModelResult:
        """Make sure that this job never commits, unless it has ended already; return its result either way.

        Cancelling is durable: a job that waits ends REVOKED whenever a worker takes it, and a dead letter is removed.
        Redis need not answer. Raises SettingsInvalid without DATABASE_URL, StorageError if PostgreSQL does not answer.
        """
        return self._client.cancel(self.correlation_id)

    def result(self, timeout: float = 10.0) -> ModelResult[Data]:
        """Wait up to `timeout` seconds for the job's ModelResult; a job that failed has one as well.

        A last lookup in PostgreSQL, where one is necessary, may take up to a second more. Raises JobTimeout if there
        is no result in time (the job goes on), ResultBackendUnavailable, and ContractInvalid for a negative timeout.
        """
        return self._client._result(self.correlation_id, self._request, check_wait(timeout))


class AsyncJob(Generic[Data]):
    """`Job` with `await`."""

    def __init__(
        self, client: "AsyncPatternStorageClient", correlation_id: UUID, request: Request | None = None
    ) -> None:
        self._client = client
        self._request = request
        self.correlation_id = correlation_id

    def __repr__(self) -> str:
        return f"AsyncJob({str(self.correlation_id)!r})"

    async def status(self) -> str:
        """See `Job.status`."""
        return await self._client._status(self.correlation_id)

    async def progress(self) -> dict[str, Any] | None:
        """See `Job.progress`."""
        return parse_progress(await self._client._get(self.correlation_id))

    async def cancel(self) -> ModelResult:
        """See `Job.cancel`."""
        return await self._client.cancel(self.correlation_id)

    async def result(self, timeout: float = 10.0) -> ModelResult[Data]:
        """See `Job.result`."""
        return await self._client._result(self.correlation_id, self._request, check_wait(timeout))
