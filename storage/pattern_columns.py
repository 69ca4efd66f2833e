"""The columns of a pattern as TypedDicts, which tell mypy and editors what a plain dictionary has.

A test keeps them equal to `Pattern`, which checks the values.
"""

from typing import Any, NotRequired
from uuid import UUID

from pydantic import ConfigDict, with_config

# On Python 3.11 pydantic takes only these in models.
from typing_extensions import TypedDict

#: Validation of these dictionaries in a model or the body of a request: an unknown column is refused, not ignored.
CHECKED = ConfigDict(strict=True, extra="forbid")


@with_config(CHECKED)
class PatternChanges(TypedDict, total=False):
    """The 19 columns that an update may change; `Pattern` has their rules."""

    pattern_name: str
    pattern_type: str
    language: str
    category: str | None
    template_code: str
    description: str | None
    example_usage: str | None
    source: str | None
    confidence_score: float
    usage_count: int
    success_rate: float
    complexity_score: int | None
    maintainability_score: float | None
    performance_score: float | None
    parent_pattern_id: UUID | str | None
    is_deprecated: bool
    created_by: str
    tags: list[str]
    context: dict[str, Any]


@with_config(CHECKED)
class PatternColumns(TypedDict):
    """The 19 columns that an insert may write; four of them it has to."""

    pattern_name: str
    pattern_type: str
    language: str
    category: NotRequired[str | None]
    template_code: str
    description: NotRequired[str | None]
    example_usage: NotRequired[str | None]
    source: NotRequired[str | None]
    confidence_score: NotRequired[float]
    usage_count: NotRequired[int]
    success_rate: NotRequired[float]
    complexity_score: NotRequired[int | None]
    maintainability_score: NotRequired[float | None]
    performance_score: NotRequired[float | None]
    parent_pattern_id: NotRequired[UUID | str | None]
    is_deprecated: NotRequired[bool]
    created_by: NotRequired[str]
    tags: NotRequired[list[str]]
    context: NotRequired[dict[str, Any]]
