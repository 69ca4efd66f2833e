"""What applications import: enqueue storage jobs, and read what became of them by correlation id."""

from storage import ModelContractPatternStorage, ModelPatternRecord, ModelResult
from storage.errors import ContractInvalid, CorrelationConflict
from tasks.client.asynchronous import AsyncJob, AsyncPatternStorageClient
from tasks.client.synchronous import Job, PatternStorageClient
from tasks.errors import BrokerUnavailable, JobError, JobTimeout, ResultBackendUnavailable, ServiceUnavailable

__all__ = [
    "AsyncJob",
    "AsyncPatternStorageClient",
    "BrokerUnavailable",
    "ContractInvalid",
    "CorrelationConflict",
    "Job",
    "JobError",
    "JobTimeout",
    "ModelContractPatternStorage",
    "ModelPatternRecord",
    "ModelResult",
    "PatternStorageClient",
    "ResultBackendUnavailable",
    "ServiceUnavailable",
]
