"""A pattern: the 22 columns of `pattern_templates`, their types and their limits.

Types are strict, as a database's are: a number is not a text, a text is not a number. Times and UUIDs
may come as their ISO 8601 and hexadecimal texts, because that is how JSON carries them.
"""

import json
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from pattern_storage.storage.explanation import refuse_unknown

MAX_TEXT_BYTES = 1024 * 1024
MAX_CONTEXT_BYTES = 256 * 1024
MAX_CONTEXT_DEPTH = 100
TOO_DEEP = f"must be nested at most {MAX_CONTEXT_DEPTH} levels deep"
MAX_TAGS = 64
MAX_TAG_LENGTH = 100

#: The database sets these; a contract cannot.
READ_ONLY = ("id", "created_at", "updated_at")


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain a NUL character, PostgreSQL cannot store it")
    return text


def _storable_text(text: str) -> str:
    # One function for both rules: it is called for every text of every job, in client and worker.
    if "\x00" in text:
        raise ValueError("must not contain a NUL character, PostgreSQL cannot store it")
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"must be at most {MAX_TEXT_BYTES:,} bytes of UTF-8 and is {size:,}")
    return text


#: Shared, since making an encoder costs as much as using it.
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode


def _storable_json(context: dict[str, Any]) -> dict[str, Any]:
    """Refuse what jsonb cannot hold, before PostgreSQL does with a less helpful sentence."""
    try:
        text = _encode(context)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"must be a JSON object: {error}") from None
    # The number of brackets, which is quicker to find, is a bound of the depth.
    if text.count("[") + text.count("{") > MAX_CONTEXT_DEPTH and _depth(context) > MAX_CONTEXT_DEPTH:
        raise ValueError(TOO_DEEP)
    if "\\u0000" in text and _has_nul(context):
        raise ValueError("must not contain a NUL character, PostgreSQL cannot store it")
    size = len(text.encode())
    if size > MAX_CONTEXT_BYTES:
        raise ValueError(f"must be at most {MAX_CONTEXT_BYTES:,} bytes of JSON and is {size:,}")
    return context


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting and deepest <= MAX_CONTEXT_DEPTH:
        item, depth = waiting.pop()
        if isinstance(item, dict | list):
            deepest = max(deepest, depth)
            children = item.values() if isinstance(item, dict) else item
            waiting.extend((child, depth + 1) for child in children)
    return deepest


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\x00" in value


Label = Annotated[str, Field(max_length=255), AfterValidator(_no_nul)]
Text = Annotated[str, AfterValidator(_storable_text)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_no_nul)]
Kind = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_no_nul)]
Language = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_no_nul)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Complexity = Annotated[int, Field(ge=1, le=10)]
#: The upper bound is that of PostgreSQL's integer.
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Tag = Annotated[str, Field(max_length=MAX_TAG_LENGTH), AfterValidator(_no_nul)]
Tags = Annotated[list[Tag], Field(max_length=MAX_TAGS)]
Context = Annotated[dict[str, Any], AfterValidator(_storable_json)]
Id = Annotated[UUID, Field(strict=False)]
Time = Annotated[datetime, Field(strict=False)]


def _has_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("must have a time zone, for example 2026-01-31T12:00:00Z")
    try:
        time.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be in the years 1 to 9999 in UTC") from None
    return time


Moment = Annotated[Time, AfterValidator(_has_utc)]


class Pattern(BaseModel):
    """A pattern to insert: the 19 columns that a contract may set, with the table's defaults."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    pattern_name: Name
    pattern_type: Kind
    language: Language
    category: Text | None = None
    template_code: Text
    description: Text | None = None
    example_usage: Text | None = None
    source: Text | None = None
    confidence_score: Fraction = 0.5
    usage_count: Count = 0
    success_rate: Fraction = 0.5
    complexity_score: Complexity | None = None
    maintainability_score: Fraction | None = None
    performance_score: Fraction | None = None
    parent_pattern_id: Id | None = None
    is_deprecated: bool = False
    created_by: Text = "system"
    tags: Tags = []
    context: Context = {}

    @model_validator(mode="before")
    @classmethod
    def _known_columns(cls, given: Any) -> Any:
        # The subset is nearly always true, and quick: this runs twice for every job.
        if isinstance(given, dict) and not given.keys() <= _WRITABLE:
            for column in READ_ONLY:
                if column in given:
                    raise ValueError(f"{column} is set by the database and cannot be written")
            refuse_unknown(given, Pattern.model_fields, "column")
        return given

    @property
    def key(self) -> tuple[str, str, str]:
        """The unique key of a pattern: (pattern_name, pattern_type, language)."""
        return self.pattern_name, self.pattern_type, self.language


class ModelPatternRecord(Pattern):
    """One row of `pattern_templates` as a query returns it: all 22 columns."""

    id: Id
    created_at: Time
    updated_at: Time

    @model_validator(mode="before")
    @classmethod
    def _known_columns(cls, given: Any) -> Any:
        if isinstance(given, dict):
            refuse_unknown(given, cls.model_fields, "column")
        return given


#: The 19 columns an insert writes and an update may change, in table order.
WRITABLE = tuple(Pattern.model_fields)
_WRITABLE = frozenset(WRITABLE)

#: All 22 columns, in table order.
COLUMNS = ("id", *WRITABLE, "created_at", "updated_at")


def check_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """Check an update's new values by the rules of an insert, without asking for the other columns.

    Returns the given columns with their checked values. Raises pydantic's ValidationError.
    """
    stand_ins = {"pattern_name": "-", "pattern_type": "-", "language": "-", "template_code": ""}
    checked = Pattern.model_validate({**stand_ins, **changes})
    return {column: getattr(checked, column) for column in changes}
