"""Base of operations: a contract checked once, then an effect on a connection."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, Self, TypeVar

from psycopg.sql import SQL, Composable, Identifier
from psycopg.types.json import Jsonb
from pydantic import ValidationError

from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.explanation import explain
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.rows import Connection

T = TypeVar("T")


class Operation(Protocol):
    """One of the five operations, with its values checked and ready to run."""

    @classmethod
    def check(cls, contract: ModelContractPatternStorage) -> Self:
        """Check every value of the contract, without a database. Raises ContractInvalid."""
        ...

    async def apply(self, connection: Connection) -> dict[str, Any]:
        """Make the effect in the caller's transaction and return `ModelResult.data`.

        Raises StorageError or psycopg.Error; the caller's transaction must then roll back.
        """
        ...


def checked(validate: Callable[..., T], value: Any) -> T:
    """Run pydantic's `validate(value)`. Raises ContractInvalid with its findings as one sentence."""
    try:
        return validate(value)
    except ValidationError as error:
        raise ContractInvalid(explain(error)) from None


def refuse_unused(contract: ModelContractPatternStorage, *used: str) -> None:
    """Raise ContractInvalid for a given field that this operation would ignore."""
    for field in ("pattern_id", "data", "patterns", "query_params", "expect"):
        if field not in used and getattr(contract, field):
            raise ContractInvalid(f"{field} has no meaning for the operation {contract.operation!r}; leave it out")


def identifiers(columns: Iterable[str]) -> Composable:
    """Return column names, which must come from our own lists, as quoted SQL identifiers."""
    return SQL(", ").join(map(Identifier, columns))


def adapt(column: str, value: Any) -> Any:
    """Return the value in the form psycopg needs for this column."""
    return Jsonb(value) if column == "context" else value
