"""Fingerprint of a request: what tells it from another one under the same correlation id."""

import hashlib
from typing import Any

from pattern_storage.storage import numbers
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.vocabulary import OperationName

#: What makes two requests the same: everything that decides the effect, or the answer to a query.
WRITE = {"operation", "pattern_id", "data", "patterns", "expect"}
QUERY = {"operation", "query_params"}


def fingerprint(contract: ModelContractPatternStorage) -> bytes:
    """Return the SHA-256 of what the contract asks for; its name, description and version do not matter.

    Equal numbers are the same however they are spelt: jsonb has another spelling for some than Python.
    """
    return fingerprints(contract)[0]


def fingerprints(contract: ModelContractPatternStorage, *, jsonable: bool = False) -> tuple[bytes, ...]:
    """Return the fingerprint, and that of older releases where it differs: they hashed numbers as they were spelt.

    Args:
        contract: what is asked for.
        jsonable: whether its values are those of a message, which has JSON types alone.
    """
    if jsonable and contract.expect is None and contract.operation != OperationName.QUERY:
        # What the dump below makes of these, in a tenth of its time.
        request: dict[str, Any] = {
            "operation": contract.operation,
            "data": contract.data,
            "patterns": contract.patterns,
        }
        request["pattern_id"] = None if contract.pattern_id is None else str(contract.pattern_id)
    else:
        asked = QUERY if contract.operation == OperationName.QUERY else WRITE
        request = contract.model_dump(mode="json", include=asked)
    older = numbers.sorted_json(request)
    canonical = numbers.canonical_json(request, older)
    texts = (canonical,) if canonical == older else (canonical, older)
    return tuple(hashlib.sha256(text.encode()).digest() for text in texts)


def name_request(result: ModelResult, contract: ModelContractPatternStorage) -> bytes:
    """Note in the result's metadata which request it answers, and return the request's fingerprint.

    `request` is what clients of older releases compare, `canonical_request` is there where it differs.
    """
    canonical, *older = fingerprints(contract)
    result.metadata["request"] = (older[0] if older else canonical).hex()
    if older:
        result.metadata["canonical_request"] = canonical.hex()
    return canonical
