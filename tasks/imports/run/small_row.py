"""Fast validation of a small line of JSON, by pydantic's core alone.

`Pattern` has rules that are checked in Python: NUL characters, bytes of UTF-8, depth and size of a context, and unknown
columns with a hint. A short line without an escaped NUL, and with few brackets in its context, cannot break the first
four; for the last, and for the sentence of any error, a row that fails here is validated by `Pattern`. These functions
took half of an import's own CPU time.
"""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from pattern_storage.storage.copy_rows import JsonText
from pattern_storage.storage.pattern import (
    MAX_CONTEXT_DEPTH,
    MAX_TAG_LENGTH,
    MAX_TAGS,
    Complexity,
    Count,
    Fraction,
    Pattern,
)

#: Bytes of a small line. A context grows at most sixfold when it is written by another serializer (`1e9`, spaces), and
#: stays below its limit of 256 KiB; texts never grow.
SMALL = 32 * 1024


class SmallPattern(BaseModel):
    """The columns of `Pattern`, with only the constraints of their types."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    pattern_name: Annotated[str, Field(min_length=1, max_length=255)]
    pattern_type: Annotated[str, Field(min_length=1, max_length=100)]
    language: Annotated[str, Field(min_length=1, max_length=50)]
    category: str | None = None
    template_code: str
    description: str | None = None
    example_usage: str | None = None
    source: str | None = None
    confidence_score: Fraction = 0.5
    usage_count: Count = 0
    success_rate: Fraction = 0.5
    complexity_score: Complexity | None = None
    maintainability_score: Fraction | None = None
    performance_score: Fraction | None = None
    parent_pattern_id: Annotated[UUID, Field(strict=False)] | None = None
    is_deprecated: bool = False
    created_by: str = "system"
    tags: Annotated[list[Annotated[str, Field(max_length=MAX_TAG_LENGTH)]], Field(max_length=MAX_TAGS)] = []
    context: dict[str, Any] = {}


_validate = SmallPattern.__pydantic_validator__.validate_json


def validate_line(line: bytes) -> Pattern | SmallPattern:
    """Return a line of JSON as a pattern, whose context may be a JsonText. Raises the ValidationError of `Pattern`."""
    if len(line) <= SMALL and b"\\u0000" not in line:
        try:
            pattern: SmallPattern = _validate(line)
        except ValidationError:
            pass
        else:
            if not pattern.context:
                return pattern
            text = to_json(pattern.context, inf_nan_mode="constants").decode()
            if not _is_suspicious(text):
                pattern.__dict__["context"] = JsonText(text)
                return pattern
    return Pattern.model_validate_json(line)


def _is_suspicious(context: str) -> bool:
    """Return whether the JSON may have an infinite number, such as `1e999`, or NaN, or be too deep."""
    return "nfinity" in context or "NaN" in context or context.count("{") + context.count("[") > MAX_CONTEXT_DEPTH
