"""Data of successful results: the dictionaries that they have always been, whose values have types as attributes.

`result.data["pattern_id"]` is the text of the JSON, `result.data.pattern_id` a UUID.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from pattern_storage.storage.pattern import ModelPatternRecord
from pattern_storage.vocabulary import OperationName


class _Stored(dict[str, Any]):
    """What the data of all single writes have."""

    @property
    def pattern_id(self) -> UUID:
        """The pattern."""
        return UUID(self["pattern_id"])

    @property
    def pattern_name(self) -> str:
        """What it is called, or was before it was deleted."""
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
        """The patterns, in the order of the request."""
        return [UUID(one) for one in self["pattern_ids"]]

    @property
    def pattern_names(self) -> list[str]:
        """Their names, in the same order."""
        return list(self["pattern_names"])

    @property
    def count(self) -> int:
        """How many there are."""
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
        return [ModelPatternRecord.model_validate(one) for one in self["patterns"]]

    @property
    def count(self) -> int:
        """How many are on this page."""
        return int(self["count"])

    @property
    def has_more(self) -> bool:
        """Whether there is another page."""
        return bool(self["has_more"])

    @property
    def next_cursor(self) -> str | None:
        """The `cursor` of the query for it."""
        cursor: str | None = self["next_cursor"]
        return cursor


KINDS: dict[str, type[dict[str, Any]]] = {
    OperationName.INSERT: InsertedPattern,
    OperationName.UPDATE: UpdatedPattern,
    OperationName.DELETE: DeletedPattern,
    OperationName.BATCH_INSERT: InsertedBatch,
    OperationName.QUERY: PatternPage,
}
