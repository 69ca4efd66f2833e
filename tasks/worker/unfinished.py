"""Results of jobs that could not end by themselves: they passed their time limit, or their worker died each time."""

from typing import Any

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, ledger
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.worker.last_failure import LastFailure
from pattern_storage.tasks.worker.received_contract import receive
from pattern_storage.vocabulary import ErrorType, OperationName

logger = get_logger(__name__)


def record_late(operation: str, task_id: str, contract: Any) -> None:
    """Record a job whose process was killed at its hard time limit as failed for good, unless it has committed.

    Otherwise the outbox would publish it again for ever, each time as if it were the first.
    """
    try:
        received = receive(operation, task_id, contract)
        if operation != OperationName.QUERY:
            late = too_late(received)
            run_sync(
                Database(environment_settings()).run(
                    lambda connection: ledger.record_failure(connection, received, late)
                )
            )
    except StorageError as error:
        logger.warning("cannot record that %s was killed at its time limit: %s", task_id, error)


def too_late(contract: ModelContractPatternStorage) -> ModelResult:
    """Return the result of a job that passed its time limit."""
    return ModelResult.failure(
        "The job did not end within its time limit",
        ErrorType.TIME_LIMIT_EXCEEDED,
        correlation_id=contract.correlation_id,
        operation=contract.operation,
    )


def never_ended(contract: ModelContractPatternStorage, count: int, failure: LastFailure | None) -> ModelResult:
    """Return the result of a job that was begun `count` times and never ended; `failure` is its last, if known."""
    reason = (
        "its worker was killed or lost each time" if failure is None else f"the last time it failed: {failure.error}"
    )
    return ModelResult.failure(
        f"The job was begun {count} times and never ended: {reason}",
        ErrorType.WORKER_LOST if failure is None else failure.error_type,
        correlation_id=contract.correlation_id,
        operation=contract.operation,
    )
