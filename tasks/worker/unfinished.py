"""Results of jobs that could not end by themselves: their time was over, or their worker died each time."""

from typing import Any

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, ledger
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.explanation import printable
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.worker.received_contract import receive
from pattern_storage.vocabulary import ErrorType, OperationName

logger = get_logger(__name__)

#: The header of a message with the reason of the attempt that it follows.
LAST_FAILURE = "last_failure"
#: Characters of such a reason.
LONGEST_REASON = 1_000


def settle_late(operation: str, task_id: str, contract: Any) -> None:
    """Enter a job whose process was killed at its hard limit as failed for good, unless it has committed.

    The outbox would send it again for ever, each time as if it were the first.
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
        logger.warning("cannot settle %s, which was killed at its time limit: %s", task_id, error)


def too_late(contract: ModelContractPatternStorage) -> ModelResult:
    """Return the result of a job whose time was over."""
    return ModelResult.failure(
        "The job did not end within its time limit",
        ErrorType.TIME_LIMIT_EXCEEDED,
        correlation_id=contract.correlation_id,
        operation=contract.operation,
    )


def failure_header(result: ModelResult) -> dict[str, Any]:
    """Return the header by which the message of the next attempt says how this one failed.

    PostgreSQL, which counts attempts, is often what has failed: it cannot be told.
    """
    reason = {"error": printable(result.error)[:LONGEST_REASON], "error_type": result.metadata.get("error_type")}
    return {LAST_FAILURE: reason}


def never_ended(contract: ModelContractPatternStorage, count: int, request: Any) -> ModelResult:
    """Return the result of a job that was begun `count` times, the last time by the message before this one.

    A message that was delivered before is one whose worker was lost; any other comes from an attempt that failed.
    """
    error = f"The job was begun {count} times and never ended: its worker was killed or lost each time"
    kind: str = ErrorType.WORKER_LOST
    failure = vars(request).get(LAST_FAILURE)  # as it came: anybody may send a message
    if not (request.delivery_info or {}).get("redelivered") and isinstance(failure, dict):
        error = f"The job was begun {count} times and never ended; the last time it failed: {failure.get('error')}"
        kind = str(failure.get("error_type"))
    return ModelResult.failure(
        printable(error)[:LONGEST_REASON], kind, correlation_id=contract.correlation_id, operation=contract.operation
    )
