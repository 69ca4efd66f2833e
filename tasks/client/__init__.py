"""Clients: enqueue storage jobs and read their results by correlation id. Applications import `pattern_storage`."""

from pattern_storage.tasks.client.asynchronous import AsyncPatternStorageClient
from pattern_storage.tasks.client.job import AsyncJob, Job
from pattern_storage.tasks.client.synchronous import PatternStorageClient
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
    "Job",
    "JobError",
    "JobTimeout",
    "PatternStorageClient",
    "ResultBackendUnavailable",
    "ServiceUnavailable",
]
