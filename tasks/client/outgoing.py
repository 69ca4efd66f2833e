"""Contract to be sent: validated and serialized, so that later changes of the caller's objects have no effect."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from pydantic_core import PydanticSerializationError, from_json, to_json

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.errors import ContractInvalid, PermanentError
from pattern_storage.storage.fingerprint import fingerprints
from pattern_storage.storage.job_options import NO_OPTIONS, JobOptions
from pattern_storage.storage.operations import check
from pattern_storage.storage.pattern import Pattern
from pattern_storage.storage.quick_check import checked_json
from pattern_storage.storage.required_fields import REQUIRED_COLUMNS
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.description import describe_contract
from pattern_storage.vocabulary import OperationName

#: Largest JSON, in bytes, that a job keeps for its fingerprint; of a larger one it keeps the fingerprint itself.
KEPT_BYTES = 16 * 1024


class Outgoing(NamedTuple):
    """A job to be sent."""

    operation: str
    correlation_id: UUID
    #: The contract as JSON, which the worker reads and the fingerprint is computed from.
    contract: bytes
    description: str
    #: Whether the same id may be submitted again: a query whose id the caller has chosen.
    is_reusable: bool
    options: JobOptions = NO_OPTIONS
    #: Whether the id was made for this job: PostgreSQL cannot have kept anything of it, see `storage.delivery`.
    id_is_new: bool = False


def build(operation: str, *, correlation_id: UUID | str | None = None, **fields: Any) -> ModelContractPatternStorage:
    """Build a contract. Raises ContractInvalid, a ValueError, with one clear sentence."""
    named: dict[str, Any] = {"correlation_id": correlation_id} if correlation_id is not None else {}
    return ModelContractPatternStorage(operation=operation, **named, **fields)


def prepare(contract: ModelContractPatternStorage, *, id_is_new: bool = False) -> Outgoing:
    """Check every value of a contract and return its job. Raises ContractInvalid or UnsupportedOperation."""
    if not isinstance(contract, ModelContractPatternStorage):
        raise ContractInvalid(f"contract should be a ModelContractPatternStorage, got {type(contract).__name__}")
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
        id_is_new=id_is_new,
    )


@contextmanager
def naming_contract(prepared: Sized) -> Iterator[None]:
    """Give an error the index of its contract: that of the first one that is not among the prepared."""
    try:
        yield
    except PermanentError as error:
        error.name_contract(len(prepared))
        raise


def _to_json(contract: ModelContractPatternStorage) -> bytes:
    # `model_dump_json` returns a str, which would have to be encoded again.
    return contract.__pydantic_serializer__.to_json(contract)


def _insert_template() -> bytes:
    """Return the JSON of an insert's contract with `%b` for its id and its pattern."""
    contract = build(OperationName.INSERT, data=dict.fromkeys(REQUIRED_COLUMNS, ""))
    text, pattern = _to_json(contract), to_json(contract.data)
    return text.replace(b"%", b"%%").replace(str(contract.correlation_id).encode(), b"%b", 1).replace(pattern, b"%b", 1)


_INSERT = _insert_template()


def prepare_insert(data: Mapping[str, Any] | Pattern, correlation_id: UUID | str | None = None) -> Outgoing:
    """Return the job that inserts this pattern, as `prepare` does but without a contract: twice as fast.

    Raises ContractInvalid.
    """
    is_new = correlation_id is None
    job = uuid4() if correlation_id is None else correlation_id
    if isinstance(job, UUID) and isinstance(data, dict) and (text := checked_json(data)) is not None:
        description = describe_contract(OperationName.INSERT, {"data": data})
        contract = _INSERT % (str(job).encode(), text)
        return Outgoing(OperationName.INSERT, job, contract, description, is_reusable=False, id_is_new=is_new)
    # The contract has the error texts for wrong values, and accepts values that are not JSON yet, such as a tuple.
    return prepare(build(OperationName.INSERT, data=data, correlation_id=correlation_id), id_is_new=is_new)


def reused_results(jobs: Iterable[Outgoing], prefix: str) -> list[str]:
    """Return the result keys of queries whose ids the callers have chosen: an earlier result may be stored there."""
    return [result_key(job.correlation_id, prefix) for job in jobs if job.is_reusable]


def contract_of(text: bytes) -> ModelContractPatternStorage:
    """Return the contract of this JSON, unchecked: its caller may have changed the values after building it."""
    fields = from_json(text)
    typed: dict[str, Any] = {
        name: UUID(fields[name]) for name in ("correlation_id", "pattern_id") if fields[name] is not None
    }
    if "expect" in fields:
        typed["expect"] = datetime.fromisoformat(fields["expect"])
    return ModelContractPatternStorage.model_construct(**fields | typed)


class Request:
    """Identity of a request, which tells its result from that of another request under the same id.

    The fingerprint costs as much time as sending and most jobs never need it, so it is computed on first use.
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
    """Return the fingerprint of a request; see `Request.fingerprint`."""
    return " ".join(digest.hex() for digest in fingerprints(contract, jsonable=jsonable))
