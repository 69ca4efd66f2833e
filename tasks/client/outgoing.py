"""A contract as it is sent: checked, and in a form that does not change with the caller's objects."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from pydantic_core import PydanticSerializationError, from_json, to_json

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.fingerprint import fingerprints
from pattern_storage.storage.job_options import NO_OPTIONS, JobOptions
from pattern_storage.storage.operations import check
from pattern_storage.storage.pattern import Pattern
from pattern_storage.storage.quick_check import checked_json
from pattern_storage.storage.required_fields import REQUIRED_COLUMNS
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.description import describe_contract
from pattern_storage.vocabulary import OperationName

#: Bytes of JSON that a job keeps for its fingerprint; of more it keeps the fingerprint itself.
KEPT_BYTES = 16 * 1024


class Outgoing(NamedTuple):
    """What a message is made of."""

    operation: str
    correlation_id: UUID
    #: The contract as JSON: what the worker reads, and what the fingerprint is computed of.
    contract: bytes
    description: str
    #: Whether it may be done again under the same id: a query whose id the caller chose.
    is_reusable: bool
    options: JobOptions = NO_OPTIONS


def build(operation: str, *, correlation_id: UUID | str | None = None, **fields: Any) -> ModelContractPatternStorage:
    """Build a contract. Raises ContractInvalid, a ValueError, with one clear sentence."""
    named: dict[str, Any] = {"correlation_id": correlation_id} if correlation_id is not None else {}
    return ModelContractPatternStorage(operation=operation, **named, **fields)


def prepare(contract: ModelContractPatternStorage) -> Outgoing:
    """Check every value of a contract and return what is sent of it. Raises ContractInvalid or UnsupportedOperation."""
    check(contract)
    try:
        text = _to_json(contract)
    except PydanticSerializationError as error:
        raise ContractInvalid(f"contract cannot be JSON: {error}") from None
    return Outgoing(
        contract.operation,
        contract.correlation_id,
        text,
        describe_contract(contract.operation, vars(contract)),
        contract.operation == OperationName.QUERY and "correlation_id" in contract.model_fields_set,
    )


def _to_json(contract: ModelContractPatternStorage) -> bytes:
    # One pass without Python objects in between; `model_dump_json` would decode these bytes.
    return contract.__pydantic_serializer__.to_json(contract)


def _insert_template() -> bytes:
    """Return the JSON of an insert's contract with places for its id and its pattern."""
    contract = build(OperationName.INSERT, data=dict.fromkeys(REQUIRED_COLUMNS, ""))
    text, pattern = _to_json(contract), to_json(contract.data)
    return text.replace(b"%", b"%%").replace(str(contract.correlation_id).encode(), b"%b", 1).replace(pattern, b"%b", 1)


_INSERT = _insert_template()


def prepare_insert(data: Mapping[str, Any] | Pattern, correlation_id: UUID | str | None = None) -> Outgoing:
    """Return what `prepare` returns for the contract that inserts this pattern, without building it: twice as fast.

    Raises ContractInvalid.
    """
    job = uuid4() if correlation_id is None else correlation_id
    if isinstance(job, UUID) and isinstance(data, dict) and (text := checked_json(data)) is not None:
        description = describe_contract(OperationName.INSERT, {"data": data})
        return Outgoing(OperationName.INSERT, job, _INSERT % (str(job).encode(), text), description, is_reusable=False)
    # What is wrong is said by the contract, in the same words whichever way it comes. It also takes what is no JSON
    # yet, such as a tuple.
    return prepare(build(OperationName.INSERT, data=data, correlation_id=correlation_id))


def reused_results(jobs: Iterable[Outgoing], prefix: str) -> list[str]:
    """Return the result keys of queries under an id of the caller's choice: a result may stand there already."""
    return [result_key(job.correlation_id, prefix) for job in jobs if job.is_reusable]


def contract_of(text: bytes) -> ModelContractPatternStorage:
    """Return the contract of this JSON, unchecked: it may have been changed after it was built."""
    fields = from_json(text)
    typed: dict[str, Any] = {
        name: UUID(fields[name]) for name in ("correlation_id", "pattern_id") if fields[name] is not None
    }
    if "expect" in fields:
        typed["expect"] = datetime.fromisoformat(fields["expect"])
    return ModelContractPatternStorage.model_construct(**fields | typed)


class Request:
    """What tells this request's result from that of another under the same id.

    Most jobs are never asked: the fingerprint costs as much as sending, and is computed when it is first wanted.
    """

    __slots__ = ("_contract", "_fingerprint")

    def __init__(self, sent: Outgoing) -> None:
        self._contract = sent.contract
        self._fingerprint: str | None = None
        if len(sent.contract) > KEPT_BYTES:
            self._fingerprint, self._contract = self.fingerprint, b""

    @property
    def fingerprint(self) -> str:
        """The digests of `storage.fingerprint.fingerprints`, hexadecimal, with spaces between."""
        if self._fingerprint is None:
            self._fingerprint = request_fingerprint(contract_of(self._contract), jsonable=True)
        return self._fingerprint


def request_fingerprint(contract: ModelContractPatternStorage, *, jsonable: bool = False) -> str:
    """Return what tells this request's result from another's under the same id; see `storage.fingerprint`."""
    return " ".join(digest.hex() for digest in fingerprints(contract, jsonable=jsonable))
