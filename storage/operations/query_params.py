"""Parameters of a query: filters, order and page. An unknown name is refused with a suggestion."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pattern_storage.storage.explanation import refuse_unknown
from pattern_storage.storage.operations.paging import Cursor
from pattern_storage.storage.pattern import Context, Fraction, Id, Kind, Language, Moment, Name, Tags, Text

DEFAULT_LIMIT = 50
MAX_LIMIT = 1_000

#: Columns a query may be ordered by: all of them NOT NULL and indexed together with the id.
SortColumn = Literal["created_at", "updated_at", "pattern_name", "confidence_score", "success_rate", "usage_count"]


SomeTags = Annotated[Tags, Field(min_length=1)]


class QueryParams(BaseModel):
    """Filters (all given ones must hold), order and page of a query.

    Attributes:
        name_contains: part of pattern_name, upper and lower case alike, no wildcards.
        tags_any: at least one of these tags; tags_all: every one of them.
        context_contains: a JSON object that the pattern's context contains (PostgreSQL's `@>`).
        min_confidence: the least confidence_score; min_success_rate likewise.
        created_after: inclusive; created_before: exclusive; updated_* likewise.
        limit: records a page, 1 to 1,000; a page of large ones ends earlier, see `MAX_PAGE_BYTES`.
        cursor: `next_cursor` of the page before, from a query with the same order.
    """

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    id: Id | None = None
    pattern_name: Name | None = None
    pattern_type: Kind | None = None
    language: Language | None = None
    category: Text | None = None
    created_by: Text | None = None
    is_deprecated: bool | None = None
    parent_pattern_id: Id | None = None
    name_contains: Name | None = None
    tags_any: SomeTags | None = None
    tags_all: SomeTags | None = None
    context_contains: Context | None = None
    min_confidence: Fraction | None = None
    min_success_rate: Fraction | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    updated_after: Moment | None = None
    updated_before: Moment | None = None
    order_by: SortColumn = "created_at"
    descending: bool = True
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, given: Any) -> Any:
        if isinstance(given, dict):
            refuse_unknown(given, cls.model_fields, "query parameter")
        return given

    @model_validator(mode="after")
    def _own_cursor(self) -> Self:
        if self.cursor is not None:
            Cursor.decode(self.cursor, self.order_by, self.descending)
        return self

    def filters(self) -> dict[str, Any]:
        """Return the filters that were given; each is a block `where_<name>` in storage/sql."""
        return self.model_dump(exclude={"order_by", "descending", "limit", "cursor"}, exclude_none=True)
