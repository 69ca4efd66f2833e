"""Fingerprint of a request, which tells it from another request with the same correlation id."""

import hashlib
from typing import Any

from pattern_storage.storage import numbers
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.vocabulary import OperationName

#: Fields of a request: all that decide the effect of a write, or the result of a query.
WRITE = {"operation", "pattern_id", "data", "patterns", "expect"}
QUERY = {"operation", "query_params"}


def fingerprint(contract: ModelContractPatternStorage) -> bytes:
    """Return the SHA-256 of a contract's request; its name, description and version have no part in it.

    Equal numbers have equal fingerprints however they are spelt: jsonb spells some otherwise than Python.
    """
    return fingerprints(contract)[0]


def fingerprints(contract: ModelContractPatternStorage, *, jsonable: bool = False) -> tuple[bytes, ...]:
    """Return the fingerprint, and that of older releases where it differs: they hashed numbers as they were spelt.

    Args:
        contract: the request.
        jsonable: whether its values came in a message, which has only JSON types.
    """
    if jsonable and contract.expect is None and contract.operation != OperationName.QUERY:
        # Equal to the dump below, in a tenth of its time.
        request: dict[str, Any] = {
            "operation": contract.operation,
            "data": contract.data,
            "patterns": contract.patterns,
        }
        request["pattern_id"] = None if contract.pattern_id is None else str(contract.pattern_id)
    else:
        fields = QUERY if contract.operation == OperationName.QUERY else WRITE
        request = contract.model_dump(mode="json", include=fields)
    older = numbers.sorted_json(request)
    canonical = numbers.canonical_json(request, older)
    texts = (canonical,) if canonical == older else (canonical, older)
    return tuple(hashlib.sha256(text.encode()).digest() for text in texts)


def name_request(result: ModelResult, contract: ModelContractPatternStorage) -> bytes:
    """Add the request's fingerprint to the result's metadata, and return it.

    `request` is the one that clients of older releases compare; `canonical_request` is added where it differs.
    """
    canonical, *older = fingerprints(contract)
    result.metadata["request"] = (older[0] if older else canonical).hex()
    if older:
        result.metadata["canonical_request"] = canonical.hex()
    return canonical
