"""Keyset pagination: a cursor names the last record seen, so inserts never shift a page."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BeforeValidator, TypeAdapter

from pattern_storage.storage.pattern import Count, Fraction, Moment, Name

_IsoMoment = Annotated[Moment, BeforeValidator(datetime.fromisoformat)]

#: Values of the columns that can be ordered by: a cursor from outside may have any.
_VALUES: dict[str, TypeAdapter[Any]] = {
    "created_at": TypeAdapter(_IsoMoment),
    "updated_at": TypeAdapter(_IsoMoment),
    "pattern_name": TypeAdapter(Name),
    "confidence_score": TypeAdapter(Fraction),
    "success_rate": TypeAdapter(Fraction),
    "usage_count": TypeAdapter(Count),
}


@dataclass(frozen=True)
class Cursor:
    """A place in an order: that after one record. Opaque to callers."""

    order_by: str
    descending: bool
    value: Any
    id: UUID

    @classmethod
    def of(cls, record: Mapping[str, Any], order_by: str, descending: bool) -> Self:
        """Return the cursor that stands right after this database row."""
        return cls(order_by, descending, record[order_by], record["id"])

    def encode(self) -> str:
        """Return the cursor as a text that is safe in URLs."""
        value = self.value.isoformat() if isinstance(self.value, datetime) else self.value
        text = json.dumps([self.order_by, self.descending, value, str(self.id)])
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, order_by: str, descending: bool) -> Self:
        """Read what `encode` wrote. Raises ValueError if it did not, or if the order is another one."""
        try:
            made_for, made_descending, value, record_id = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if (made_for, made_descending) != (order_by, descending):
                raise ValueError("another order")
            return cls(order_by, descending, _VALUES[order_by].validate_python(value, strict=True), UUID(record_id))
        except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
            raise ValueError("cursor is not the next_cursor of a query in this order; start again without it") from None
