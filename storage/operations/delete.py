"""delete: remove one pattern."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pattern_storage.storage.errors import ContractInvalid, PatternNotFound, VersionConflict
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import refuse_unused
from pattern_storage.storage.rows import Connection, fetch_one
from pattern_storage.storage.sql import block


@dataclass(frozen=True)
class Delete:
    """Removal of the pattern with this id."""

    pattern_id: UUID
    #: When the caller expects the pattern to have been last updated; None for any time.
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
        values = {"id": self.pattern_id, "expect": self.expect}
        row = await fetch_one(connection, block("delete_pattern"), values)
        if row is None:
            raise PatternNotFound(self.pattern_id)
        pattern_id, pattern_name, present = row
        if pattern_id is None and self.expect is not None:
            raise VersionConflict(self.pattern_id, self.expect, present)
        return {"pattern_id": str(pattern_id), "pattern_name": pattern_name, "deleted": True}
