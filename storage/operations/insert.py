"""insert: write one pattern."""

from dataclasses import dataclass
from typing import Any, Self

from psycopg.sql import SQL, Placeholder
from pydantic_core import to_jsonable_python

from pattern_storage.storage.errors import UniqueViolation
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import adapt, checked, identifiers, refuse_unused
from pattern_storage.storage.pattern import WRITABLE, Pattern
from pattern_storage.storage.rows import Connection, fetch_one
from pattern_storage.storage.sql import block

STATEMENT = SQL(block("insert_pattern")).format(
    columns=identifiers(WRITABLE), values=SQL(", ").join(map(Placeholder, WRITABLE))
)


@dataclass(frozen=True)
class Insert:
    """One new pattern."""

    pattern: Pattern

    @classmethod
    def check(cls, contract: ModelContractPatternStorage) -> Self:
        """See `Operation.check`."""
        refuse_unused(contract, "data")
        return cls(checked(Pattern.model_validate, contract.data))

    async def apply(self, connection: Connection) -> dict[str, Any]:
        """Return `pattern_id`, `pattern_name` and `created_at`. Raises UniqueViolation if the key is taken."""
        values = {column: adapt(column, getattr(self.pattern, column)) for column in WRITABLE}
        row = await fetch_one(connection, STATEMENT, values)
        if row is None:
            raise self.not_written
        pattern_id, pattern_name, created_at = row
        return {
            "pattern_id": str(pattern_id),
            "pattern_name": pattern_name,
            "created_at": to_jsonable_python(created_at),
        }

    @property
    def not_written(self) -> UniqueViolation:
        """The error of an insert that no row comes back from."""
        return UniqueViolation(*self.pattern.key)
