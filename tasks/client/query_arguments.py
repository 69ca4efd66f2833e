"""Arguments of `client.query`: the query's parameters and the call's options."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pattern_storage.storage.operations.query_params import SortColumn
from pattern_storage.tasks.client.call_options import CallOptions


class QueryArguments(CallOptions, total=False):
    """Parameters of `storage.operations.query_params.QueryParams`, which validates them; a test keeps both equal."""

    id: UUID | str | None
    pattern_name: str | None
    pattern_type: str | None
    language: str | None
    category: str | None
    created_by: str | None
    is_deprecated: bool | None
    parent_pattern_id: UUID | str | None
    name_contains: str | None
    tags_any: list[str] | None
    tags_all: list[str] | None
    context_contains: dict[str, Any] | None
    min_confidence: float | None
    min_success_rate: float | None
    created_after: datetime | str | None
    created_before: datetime | str | None
    updated_after: datetime | str | None
    updated_before: datetime | str | None
    order_by: SortColumn
    descending: bool
    limit: int
    cursor: str | None
