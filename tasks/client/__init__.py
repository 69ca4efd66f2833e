"""What applications import: enqueue storage jobs, and read what became of them by correlation id."""

from pattern_storage.storage import ModelContractPatternStorage, ModelPatternRecord, ModelResult
from pattern_storage.storage.errors import ContractInvalid, CorrelationConflict
from pattern_storage.tasks.client.asynchronous import AsyncJob, AsyncPatternStorageClient
from pattern_storage.tasks.client.synchronous import Job, PatternStorageClient
from pattern_storage.tasks.errors import (
    BrokerUnavailable,
    JobError,
    JobTimeout,
    ResultBackendUnavailable,
    ServiceUnavailable,
)

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
