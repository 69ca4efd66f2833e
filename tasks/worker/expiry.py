"""Expiry of jobs: a job whose `expires` has passed before it begins, or begins again, fails without being executed."""

from datetime import UTC, datetime
from typing import Any

from pattern_storage.storage import ModelContractPatternStorage, ModelResult, ledger
from pattern_storage.storage.errors import StorageError
from pattern_storage.tasks.worker import runtime
from pattern_storage.vocabulary import ErrorType, OperationName


def has_expired(expires: str | datetime | None) -> bool:
    """Return whether the time of this header has passed. The header was validated when the message was received."""
    if expires is None:
        return False
    moment = datetime.fromisoformat(expires) if isinstance(expires, str) else expires
    # Celery writes UTC, with or without saying so.
    return datetime.now(UTC) > (moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def expire(contract: ModelContractPatternStorage, expires: str | datetime) -> ModelResult:
    """Record the job as expired and return that failure, or the first result if an earlier delivery was executed.

    The result has `metadata["retryable"]` where PostgreSQL cannot tell which.
    """
    named: dict[str, Any] = {"correlation_id": contract.correlation_id, "operation": contract.operation}
    failure = ModelResult.failure(f"The job expired at {expires} before it began", ErrorType.EXPIRED, **named)
    if contract.operation == OperationName.QUERY:
        return failure
    try:
        return runtime.on_connection(ledger.record_failure, contract, failure)
    except StorageError as error:
        return ModelResult.failure(str(error), error.error_type, **named, **error.fields)
