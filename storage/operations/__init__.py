"""The five operations by name, and the check of a contract."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pattern_storage.storage.errors import ContractInvalid, UnsupportedOperation
from pattern_storage.storage.explanation import printable
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import Operation
from pattern_storage.storage.operations.batch_insert import BatchInsert
from pattern_storage.storage.operations.delete import Delete
from pattern_storage.storage.operations.insert import Insert
from pattern_storage.storage.operations.query import Query
from pattern_storage.storage.operations.update import Update
from pattern_storage.storage.required_fields import find_missing
from pattern_storage.vocabulary import OperationName

OPERATIONS: dict[str, type[Operation]] = {
    OperationName.INSERT: Insert,
    OperationName.UPDATE: Update,
    OperationName.DELETE: Delete,
    OperationName.BATCH_INSERT: BatchInsert,
    OperationName.QUERY: Query,
}

_KINDS: dict[str, tuple[type, ...]] = {
    "pattern_id": (UUID, type(None)),
    "data": (dict,),
    "patterns": (list,),
    "query_params": (dict,),
    "expect": (datetime, type(None)),
}


def check(contract: ModelContractPatternStorage) -> Operation:
    """Return the contract's operation, every value checked, ready to run; no database is needed.

    Raises:
        UnsupportedOperation: if there is no operation of that name.
        ContractInvalid: if something is missing or breaks a rule (BatchInsertFailed for a row of a batch).
    """
    name = getattr(contract, "operation", None)
    operation = OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None:
        raise UnsupportedOperation(printable(name))
    # A contract can be changed after it was built, or come from model_construct.
    _check_kinds(contract)
    if missing := find_missing(contract):
        raise ContractInvalid(missing)
    return operation.check(contract)


def _check_kinds(contract: ModelContractPatternStorage) -> None:
    """Raise ContractInvalid if a field does not have the type that pydantic would have ensured."""
    for field, kind in _KINDS.items():
        value: Any = getattr(contract, field, None)
        if not isinstance(value, kind):
            raise ContractInvalid(f"{field} should be a {kind[0].__name__}, got {type(value).__name__}")
    for index, pattern in enumerate(contract.patterns):
        if not isinstance(pattern, dict):
            raise ContractInvalid(f"patterns should be a list of dict, got {type(pattern).__name__} at {index}")
