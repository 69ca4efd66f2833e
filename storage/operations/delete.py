"""delete: remove one pattern."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, Self
from uuid import UUID

from pattern_storage.storage.errors import ContractInvalid, PatternNotFound, VersionConflict
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import refuse_unused
from pattern_storage.storage.rows import Connection, fetch_one
from pattern_storage.storage.sql import block


@dataclass(frozen=True)
class Delete:
    """The pattern with this id is to go."""

    pattern_id: UUID
    #: When the pattern was last updated, as far as the caller knows; None: whenever.
    expect: datetime | None = None

    @classmethod
    def check(cls, contract: ModelContractPatternStorage) -> Self:
        """See `Operation.check`."""
        refuse_unused(contract, "pattern_id", "expect")
        if contract.pattern_id is None:
            raise ContractInvalid("Delete operation requires 'pattern_id' field")
        return cls(contract.pattern_id, contract.expect)

    async def apply(self, connection: Connection) -> dict[str, Any]:
        """Return `pattern_id`, `pattern_name` and `deleted`. Raises PatternNotFound or VersionConflict."""
        return self.read(await fetch_one(connection, *self.statement()))

    def statement(self) -> tuple[LiteralString, dict[str, Any]]:
        """Return the DELETE and its values."""
        if self.expect is None:
            return block("delete_pattern"), {"id": self.pattern_id}
        return block("delete_expected_pattern"), {"id": self.pattern_id, "expect": self.expect}

    def read(self, row: tuple[Any, ...] | None) -> dict[str, Any]:
        """Return `ModelResult.data` for the row that came back. Raises PatternNotFound or VersionConflict."""
        if row is None:
            raise PatternNotFound(self.pattern_id)
        pattern_id, pattern_name, *present = row
        if pattern_id is None and self.expect is not None:
            raise VersionConflict(self.pattern_id, self.expect, present[0])
        return {"pattern_id": str(pattern_id), "pattern_name": pattern_name, "deleted": True}
