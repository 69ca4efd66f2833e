"""update: change some columns of one pattern."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from psycopg.sql import SQL, Identifier, Placeholder
from pydantic_core import to_jsonable_python

from pattern_storage.storage.errors import ContractInvalid, PatternNotFound, VersionConflict
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import adapt, checked, refuse_unused
from pattern_storage.storage.pattern import check_changes
from pattern_storage.storage.rows import Connection, fetch_one
from pattern_storage.storage.sql import block

STATEMENT = SQL(block("update_pattern"))


@dataclass(frozen=True)
class Update:
    """New values for some columns of the pattern with this id."""

    pattern_id: UUID
    changes: dict[str, Any]
    #: When the caller expects the pattern to have been last updated; None for any time.
    expect: datetime | None = None

    @classmethod
    def check(cls, contract: ModelContractPatternStorage) -> Self:
        """See `Operation.check`."""
        refuse_unused(contract, "pattern_id", "data", "expect")
        if contract.pattern_id is None:
            raise ContractInvalid("Update operation requires 'pattern_id' field")
        return cls(contract.pattern_id, checked(check_changes, contract.data), contract.expect)

    async def apply(self, connection: Connection) -> dict[str, Any]:
        """Return `pattern_id`, `pattern_name`, `updated_at`, `fields_updated`.

        Raises PatternNotFound or VersionConflict.
        """
        # check_changes has found the names in our own list.
        assignments = SQL(", ").join(
            SQL("{} = {}").format(Identifier(column), Placeholder(column)) for column in self.changes
        )
        values = {column: adapt(column, value) for column, value in self.changes.items()}
        values |= {"id": self.pattern_id, "expect": self.expect}
        row = await fetch_one(connection, STATEMENT.format(assignments=assignments), values)
        if row is None:
            raise PatternNotFound(self.pattern_id)
        pattern_id, pattern_name, updated_at, present = row
        if pattern_id is None and self.expect is not None:
            raise VersionConflict(self.pattern_id, self.expect, present)
        return {
            "pattern_id": str(pattern_id),
            "pattern_name": pattern_name,
            "updated_at": to_jsonable_python(updated_at),
            "fields_updated": list(self.changes),
        }
