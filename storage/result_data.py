"""Data of successful results: dictionaries of JSON values, with the typed values as attributes.

`result.data["pattern_id"]` is the text of the JSON, `result.data.pattern_id` a UUID.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from pattern_storage.storage.pattern import ModelPatternRecord
from pattern_storage.vocabulary import OperationName


class _Stored(dict[str, Any]):
    """Data of a write of one pattern."""

    @property
    def pattern_id(self) -> UUID:
        """The id of the pattern."""
        return UUID(self["pattern_id"])

    @property
    def pattern_name(self) -> str:
        """The name of the pattern, also of one that is deleted."""
        return str(self["pattern_name"])


class InsertedPattern(_Stored):
    """Data of an insert."""

    @property
    def created_at(self) -> datetime:
        """When it was written."""
        return datetime.fromisoformat(self["created_at"])


class UpdatedPattern(_Stored):
    """Data of an update."""

    @property
    def updated_at(self) -> datetime:
        """The time of this update: what the next one may `expect`."""
        return datetime.fromisoformat(self["updated_at"])

    @property
    def fields_updated(self) -> list[str]:
        """The columns that were written."""
        return list(self["fields_updated"])


class DeletedPattern(_Stored):
    """Data of a delete."""

    @property
    def deleted(self) -> bool:
        """True."""
        return bool(self["deleted"])


class InsertedBatch(dict[str, Any]):
    """Data of a batch_insert."""

    @property
    def pattern_ids(self) -> list[UUID]:
        """The ids of the patterns, in the order of the request."""
        return [UUID(pattern_id) for pattern_id in self["pattern_ids"]]

    @property
    def pattern_names(self) -> list[str]:
        """Their names, in the same order."""
        return list(self["pattern_names"])

    @property
    def count(self) -> int:
        """The number of patterns."""
        return int(self["count"])

    @property
    def batch_success(self) -> bool:
        """True: a batch is whole or absent."""
        return bool(self["batch_success"])


class PatternPage(dict[str, Any]):
    """Data of a query."""

    @property
    def patterns(self) -> list[ModelPatternRecord]:
        """The records of this page."""
        return [ModelPatternRecord.model_validate(record) for record in self["patterns"]]

    @property
    def count(self) -> int:
        """The number of records of this page."""
        return int(self["count"])

    @property
    def has_more(self) -> bool:
        """Whether there is another page."""
        return bool(self["has_more"])

    @property
    def next_cursor(self) -> str | None:
        """The `cursor` of the query for the next page; None on the last."""
        cursor: str | None = self["next_cursor"]
        return cursor


KINDS: dict[str, type[dict[str, Any]]] = {
    OperationName.INSERT: InsertedPattern,
    OperationName.UPDATE: UpdatedPattern,
    OperationName.DELETE: DeletedPattern,
    OperationName.BATCH_INSERT: InsertedBatch,
    OperationName.QUERY: PatternPage,
}
