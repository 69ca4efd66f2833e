"""batch_insert: write many patterns, all or none."""

import re
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg.sql import SQL

from pattern_storage.storage.errors import (
    BatchInsertFailed,
    ContractInvalid,
    ForeignKeyViolation,
    PermanentError,
    UniqueViolation,
)
from pattern_storage.storage.ids import new_id
from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import adapt, checked, identifiers, refuse_unused
from pattern_storage.storage.pattern import WRITABLE, Pattern
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.sql import block
from pattern_storage.storage.translation import translate

MAX_PATTERNS = 10_000
STATEMENT = SQL(block("copy_patterns")).format(columns=identifiers(WRITABLE))

#: "COPY pattern_templates, line 3: ..." whatever the server's language calls a line.
_LINE = re.compile(r"^COPY pattern_templates\D*(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class BatchInsert:
    """Many new patterns, in input order."""

    patterns: list[Pattern]

    @classmethod
    def check(cls, contract: ModelContractPatternStorage) -> Self:
        """See `Operation.check`. Raises BatchInsertFailed with the index of a row that breaks a rule."""
        refuse_unused(contract, "patterns")
        if len(contract.patterns) > MAX_PATTERNS:
            raise ContractInvalid(f"patterns: at most {MAX_PATTERNS:,} in one batch, got {len(contract.patterns):,}")
        patterns = []
        keys: dict[tuple[str, str, str], int] = {}
        for index, data in enumerate(contract.patterns):
            try:
                pattern = checked(Pattern.model_validate, data)
            except ContractInvalid as error:
                raise BatchInsertFailed(index, error) from None
            if keys.setdefault(pattern.key, index) != index:
                raise BatchInsertFailed(index, UniqueViolation(*pattern.key))
            patterns.append(pattern)
        return cls(patterns)

    async def apply(self, connection: Connection) -> dict[str, Any]:
        """Return `pattern_ids`, `pattern_names` (input order), `count` and `batch_success`.

        Takes one COPY whatever the number of patterns. Raises BatchInsertFailed.
        """
        ids = [new_id() for _ in self.patterns]
        # Two batches that share keys meet them in the same order, so they wait for each other and never deadlock.
        order = sorted(range(len(ids)), key=lambda index: self.patterns[index].key)
        try:
            async with connection.cursor().copy(STATEMENT) as copy:
                for index in order:
                    await copy.write_row(self._row(ids[index], self.patterns[index]))
        except psycopg.Error as error:
            raise self._failure(error, order) from error
        return {
            "pattern_ids": [str(pattern_id) for pattern_id in ids],
            "pattern_names": [pattern.pattern_name for pattern in self.patterns],
            "count": len(ids),
            "batch_success": True,
        }

    @staticmethod
    def _row(pattern_id: UUID, pattern: Pattern) -> list[Any]:
        return [pattern_id, *(adapt(column, getattr(pattern, column)) for column in WRITABLE)]

    def _failure(self, error: psycopg.Error, order: list[int]) -> Exception:
        """Name the pattern that failed: COPY counts lines, a foreign key (checked at the end) names the id."""
        cause = translate(error)
        if not isinstance(cause, PermanentError):
            return cause
        if isinstance(cause, ForeignKeyViolation):
            parents = [pattern.parent_pattern_id for pattern in self.patterns]
            # Without an id to look for, any index would be a guess.
            return cause if cause.reference is None else BatchInsertFailed(parents.index(cause.reference), cause)
        line = _LINE.search(error.diag.context or "")
        if line is None:
            return cause
        index = order[int(line[1]) - 1]
        if isinstance(cause, UniqueViolation):
            cause = UniqueViolation(*self.patterns[index].key)
        return BatchInsertFailed(index, cause)
