"""update: change some columns of one pattern."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from psycopg.sql import SQL, Composed, Identifier, Placeholder
from pydantic_core import to_jsonable_python

from pattern_storage.storage.errors import ContractInvalid, PatternNotFound, VersionConflict
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import adapt, checked, refuse_unused
from pattern_storage.storage.pattern import check_changes
from pattern_storage.storage.rows import Connection, fetch_one
from pattern_storage.storage.sql import block

STATEMENT = SQL(block("update_pattern"))
EXPECTED = SQL(block("update_expected_pattern"))


@dataclass(frozen=True)
class Update:
    """New values for some columns of the pattern with this id."""

    pattern_id: UUID
    changes: dict[str, Any]
    #: When the pattern was last updated, as far as the caller knows; None: whenever.
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
        return self.read(await fetch_one(connection, *self.statement()))

    def statement(self) -> tuple[Composed, dict[str, Any]]:
        """Return the UPDATE and its values."""
        # The names were found in our own list by check_changes.
        assignments = SQL(", ").join(
            SQL("{} = {}").format(Identifier(column), Placeholder(column)) for column in self.changes
        )
        values = {column: adapt(column, value) for column, value in self.changes.items()}
        statement = (STATEMENT if self.expect is None else EXPECTED).format(assignments=assignments)
        return statement, {**values, "id": self.pattern_id, "expect": self.expect}

    def read(self, row: tuple[Any, ...] | None) -> dict[str, Any]:
        """Return `ModelResult.data` for the row that came back. Raises PatternNotFound or VersionConflict."""
        if row is None:
            raise PatternNotFound(self.pattern_id)
        pattern_id, pattern_name, updated_at, *present = row
        if pattern_id is None and self.expect is not None:
            raise VersionConflict(self.pattern_id, self.expect, present[0])
        return {
            "pattern_id": str(pattern_id),
            "pattern_name": pattern_name,
            "updated_at": to_jsonable_python(updated_at),
            "fields_updated": list(self.changes),
        }
