"""The contract of a message, which the worker validates again."""

from typing import Any

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.errors import ContractInvalid


def receive(
    operation: str, task_id: str, contract: Any, context: dict[str, Any] | None = None
) -> ModelContractPatternStorage:
    """Build the contract of a message. A producer is never trusted: everything is validated again.

    The contract may leave out operation and correlation id, which are the task's name and id. `context` is pydantic's
    for the validation. Raises ContractInvalid.
    """
    if not isinstance(contract, dict):
        raise ContractInvalid(f"contract should be a JSON object, got {type(contract).__name__}")
    received = ModelContractPatternStorage.model_validate(
        {"correlation_id": task_id, "operation": operation, **contract}, context=context
    )
    if received.operation != operation:
        raise ContractInvalid(f"operation is {received.operation!r}, but the task is storage.{operation}")
    if str(received.correlation_id) != task_id:
        raise ContractInvalid(
            f"correlation_id is {received.correlation_id}, but the task id is {task_id}: they should be the same text"
        )
    return received
