"""Required fields of a contract, by operation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pattern_storage.vocabulary import OperationName

if TYPE_CHECKING:
    from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage

REQUIRED_COLUMNS = ("pattern_name", "pattern_type", "language", "template_code")


def find_missing(contract: "ModelContractPatternStorage") -> str | None:
    """Return the sentence that refuses a contract which lacks a field, or None if it is complete."""
    match contract.operation:
        case OperationName.INSERT:
            if missing := _missing_columns(contract.data):
                return f"Insert operation missing required fields: {missing}"
        case OperationName.UPDATE:
            if contract.pattern_id is None:
                return "Update operation requires 'pattern_id' field"
            if not contract.data:
                return "Update operation requires 'data' field with updates"
        case OperationName.DELETE:
            if contract.pattern_id is None:
                return "Delete operation requires 'pattern_id' field"
        case OperationName.BATCH_INSERT:
            if not contract.patterns:
                return "Batch insert operation requires 'patterns' list"
            for index, pattern in enumerate(contract.patterns):
                if missing := _missing_columns(pattern):
                    return f"Pattern {index} missing required fields: {missing}"
        case OperationName.QUERY:
            pass  # every parameter may be left out
    return None


def _missing_columns(pattern: Mapping[str, Any]) -> list[str]:
    return [column for column in REQUIRED_COLUMNS if pattern.get(column) is None]
