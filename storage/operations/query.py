"""query: find patterns, a page at a time."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from psycopg.rows import dict_row
from psycopg.sql import SQL, Composable, Composed, Identifier
from psycopg.types.json import Jsonb
from pydantic_core import to_jsonable_python

from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage
from pattern_storage.storage.operations.base import checked, identifiers, refuse_unused
from pattern_storage.storage.operations.paging import Cursor
from pattern_storage.storage.operations.query_params import QueryParams
from pattern_storage.storage.pattern import COLUMNS
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.sql import block

STATEMENT = SQL(block("query_patterns"))

#: Bytes of text after which a page ends, which has at least one pattern: a result has to fit into Redis.
MAX_PAGE_BYTES = 16 * 1024 * 1024


def _part_of_a_name(text: str) -> str:
    """Return an ILIKE pattern that means the text itself, anywhere, without wildcards of its own."""
    escaped = re.sub(r"([%_\\])", r"\\\1", text)
    return f"%{escaped}%"


#: Filters whose value is not sent to PostgreSQL as it is.
ADAPT: dict[str, Callable[[Any], Any]] = {"name_contains": _part_of_a_name, "context_contains": Jsonb}


@dataclass(frozen=True)
class Query:
    """A page of the patterns that fit every given filter."""

    params: QueryParams

    @classmethod
    def check(cls, contract: ModelContractPatternStorage) -> Self:
        """See `Operation.check`."""
        refuse_unused(contract, "query_params")
        return cls(checked(QueryParams.model_validate, contract.query_params))

    def statement(self) -> tuple[Composed, dict[str, Any]]:
        """Return the SQL of this query and the values of its placeholders."""
        params = self.params
        order = Identifier(params.order_by)
        values = {name: ADAPT[name](value) if name in ADAPT else value for name, value in params.filters().items()}
        filters: list[Composable] = [SQL(block(f"where_{name}")) for name in values]
        if params.cursor:
            after = Cursor.decode(params.cursor, params.order_by, params.descending)
            beyond = SQL("<" if params.descending else ">")
            filters.append(SQL(block("where_beyond")).format(order=order, beyond=beyond))
            values |= {"cursor_value": after.value, "cursor_id": after.id}
        values |= {"fetch": params.limit + 1, "bytes": MAX_PAGE_BYTES}
        statement = STATEMENT.format(
            columns=identifiers(COLUMNS),
            filters=SQL(" AND ").join(filters or [SQL("true")]),
            order=order,
            direction=SQL("DESC" if params.descending else "ASC"),
        )
        return statement, values

    async def apply(self, connection: Connection) -> dict[str, Any]:
        """Return `patterns` (records of all 22 columns), `count`, `has_more` and `next_cursor`."""
        params = self.params
        statement, values = self.statement()
        async with connection.cursor(row_factory=dict_row) as cursor:
            # Not prepared: a generic plan would ignore how selective this query's values are.
            await cursor.execute(statement, values, prepare=False)
            rows = await cursor.fetchall()
        has_more = bool(rows) and rows[0]["found"] > min(len(rows), params.limit)
        page = [{column: row[column] for column in COLUMNS} for row in rows[: params.limit]]
        return {
            "patterns": to_jsonable_python(page),
            "count": len(page),
            "has_more": has_more,
            "next_cursor": Cursor.of(page[-1], params.order_by, params.descending).encode() if has_more else None,
        }
