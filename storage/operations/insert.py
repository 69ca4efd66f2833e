"""insert: write one pattern."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from psycopg.sql import SQL, Placeholder
from pydantic_core import to_jsonable_python

from pattern_storage.storage.errors import UniqueViolation
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import Connection, adapt, checked, fetch_one, identifiers, refuse_unused
from pattern_storage.storage.pattern import WRITABLE, PatternData
from pattern_storage.storage.sql import block

STATEMENT = SQL(block("insert_pattern")).format(
    columns=identifiers(WRITABLE), values=SQL(", ").join(map(Placeholder, WRITABLE))
)


@dataclass(frozen=True)
class Insert:
    """One new pattern."""

    pattern: PatternData

    @classmethod
    def check(cls, contract: ModelContractPatternStorage) -> Self:
        """See `Operation.check`."""
        refuse_unused(contract, "data")
        return cls(checked(PatternData.model_validate, contract.data))

    async def apply(self, connection: Connection) -> dict[str, Any]:
        """Return `pattern_id`, `pattern_name` and `created_at`. Raises UniqueViolation if the key is taken."""
        values = {column: adapt(column, getattr(self.pattern, column)) for column in WRITABLE}
        row = await fetch_one(connection, STATEMENT, values)
        return self.read(None if row is None else (row[0], row[2]))

    def read(self, row: tuple[UUID, datetime] | None) -> dict[str, Any]:
        """Return `ModelResult.data` for the id and the time of the new row. Raises UniqueViolation if there is none."""
        if row is None:
            raise UniqueViolation(*self.pattern.key)
        return {
            "pattern_id": str(row[0]),
            "pattern_name": self.pattern.pattern_name,
            "created_at": to_jsonable_python(row[1]),
        }
