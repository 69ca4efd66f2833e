"""A message as the contract it should be, and the results of jobs that could not end by themselves."""

from typing import Any

from pydantic import ValidationError

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage import ModelContractPatternStorage, ModelResult, ledger
from pattern_storage.storage.errors import ContractInvalid, StorageError
from pattern_storage.storage.explanation import explain
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.client.database import Database, run_sync
from pattern_storage.vocabulary import ErrorType, OperationName

logger = get_logger(__name__)


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


def never_ended(contract: ModelContractPatternStorage, count: int) -> ModelResult:
    """Return the result of a job that was begun `count` times, each time the last thing its worker did."""
    return ModelResult.failure(
        f"The job was begun {count} times and never ended: its worker was killed or lost each time",
        ErrorType.WORKER_LOST,
        correlation_id=contract.correlation_id,
        operation=contract.operation,
    )


def receive(operation: str, task_id: str, contract: Any) -> ModelContractPatternStorage:
    """Build the contract of a message. A producer is never trusted: everything is checked again.

    What the task's name and id say may be left out of the contract. Raises ContractInvalid.
    """
    if not isinstance(contract, dict):
        raise ContractInvalid(f"contract should be a JSON object, got {type(contract).__name__}")
    try:
        received = ModelContractPatternStorage.model_validate(
            {"correlation_id": task_id, "operation": operation, **contract}
        )
    except ValidationError as error:
        raise ContractInvalid(explain(error)) from None
    if received.operation != operation:
        raise ContractInvalid(f"operation is {received.operation!r}, but the task is storage.{operation}")
    if str(received.correlation_id) != task_id:
        raise ContractInvalid(
            f"correlation_id is {received.correlation_id}, but the task id is {task_id}: they should be the same text"
        )
    return received
