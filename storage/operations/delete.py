"""delete: remove one pattern."""

from dataclasses import dataclass
from typing import Any, LiteralString, Self
from uuid import UUID

from pattern_storage.storage.errors import ContractInvalid, PatternNotFound
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import Connection, fetch_one, refuse_unused
from pattern_storage.storage.sql import block


@dataclass(frozen=True)
class Delete:
    """The pattern with this id is to go."""

    pattern_id: UUID

    @classmethod
    def check(cls, contract: ModelContractPatternStorage) -> Self:
        """See `Operation.check`."""
        refuse_unused(contract, "pattern_id")
        if contract.pattern_id is None:
            raise ContractInvalid("Delete operation requires 'pattern_id' field")
        return cls(contract.pattern_id)

    async def apply(self, connection: Connection) -> dict[str, Any]:
        """Return `pattern_id`, `pattern_name` and `deleted`. Raises PatternNotFound."""
        return self.read(await fetch_one(connection, *self.statement()))

    def statement(self) -> tuple[LiteralString, dict[str, Any]]:
        """Return the DELETE and its values."""
        return block("delete_pattern"), {"id": self.pattern_id}

    def read(self, row: tuple[Any, ...] | None) -> dict[str, Any]:
        """Return `ModelResult.data` for the row that came back. Raises PatternNotFound if there is none."""
        if row is None:
            raise PatternNotFound(self.pattern_id)
        pattern_id, pattern_name = row
        return {"pattern_id": str(pattern_id), "pattern_name": pattern_name, "deleted": True}
