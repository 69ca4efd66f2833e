"""A full table of patterns, every filter and order that a query of it may have, and the plan that PostgreSQL makes.

The table has 20,000 rows as they might be: a few types and languages, a long tail of categories, one row in fifty
deprecated, one in ten a child, and one category whose rows came together long ago, as an import's do.
"""

import os
from collections.abc import Iterator
from typing import Any, get_args
from uuid import UUID

import psycopg
import pytest
from psycopg.sql import SQL

from pattern_storage.storage.operations.paging import Cursor
from pattern_storage.storage.operations.query import Query
from pattern_storage.storage.operations.query_params import QueryParams, SortColumn

TABLE = "pattern_templates"

ROWS = int(os.environ.get("PLAN_ROWS", "20000"))

ORDERS = get_args(SortColumn)

FILL = f"""
INSERT INTO pattern_templates (id, pattern_name, pattern_type, language, category, template_code, confidence_score,
    usage_count, success_rate, complexity_score, parent_pattern_id, is_deprecated, created_by, tags, context,
    created_at, updated_at)
SELECT md5(n::text)::uuid,
    (ARRAY['parse', 'render', 'load', 'store', 'walk'])[1 + abs(hashint4(n)) % 5]
        || '_' || md5('name' || n) || '_' || n,
    (ARRAY['function', 'function', 'function', 'class', 'class', 'module', 'query'])[1 + n % 7],
    CASE WHEN n % 1000 = 0 THEN 'cobol' ELSE (ARRAY['python', 'python', 'go', 'rust'])[1 + n % 4] END,
    CASE WHEN n BETWEEN 100 AND {ROWS // 20} THEN 'imported long ago'
         WHEN n % 3 > 0 THEN 'category ' || (n % 200) END,
    repeat('x', 300),
    (n::bigint * 7919 % 10007) / 10007.0,
    (n::bigint * 104729 % 5003),
    (n::bigint * 1299709 % 9973) / 9973.0,
    1 + n % 10,
    CASE WHEN n % 10 = 0 THEN md5((1 + n % 500)::text)::uuid END,
    n % 50 = 0,
    CASE WHEN n BETWEEN 100 AND {ROWS // 20} THEN 'imported long ago'
         WHEN n % 4 = 0 THEN 'user ' || (n % 300) ELSE 'system' END,
    ARRAY['tag ' || (n % 400), 'common'],
    jsonb_build_object('module', 'm' || (n % 300), 'line', n),
    '2026-01-01Z'::timestamptz + n * interval '1 minute' * 20000 / {ROWS},
    '2026-02-01Z'::timestamptz + (n::bigint * 7919 % {ROWS}) * interval '1 minute' * 20000 / {ROWS}
FROM generate_series(1, {ROWS}) AS n
"""

FIRST = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"  # md5 of 1

#: Every filter with values that leave few rows, and, where there are any, with one that leaves most.
FILTERS: dict[str, list[Any]] = {
    "id": [FIRST, str(UUID(int=0))],
    "pattern_name": ["parse_no_such_name", "parse"],
    "pattern_type": ["query", "function", "none of that type"],
    "language": ["cobol", "python", "none of that language"],
    "category": ["category 7", "none of that category", "imported long ago"],
    "created_by": ["user 8", "system", "nobody"],
    "is_deprecated": [True, False],
    "parent_pattern_id": [FIRST, str(UUID(int=0))],
    "name_contains": ["9f8e7d", "parse", "no such name", "ab", "e"],
    "tags_any": [["tag 7"], ["common"], ["tag 7", "tag 8"], ["no such tag"]],
    "tags_all": [["tag 7"], ["common"], ["tag 7", "common"], ["no such tag"]],
    "context_contains": [{"module": "m7"}, {"line": 7, "module": "m7"}, {"no": "such"}, {}],
    "min_confidence": [0.99, 0.5, 0, 1],
    "min_success_rate": [0.99, 0.5, 0, 1],
    "created_after": ["2026-01-14T21:00:00Z", "2026-01-05T00:00:00Z", "2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"],
    "created_before": ["2026-01-01T03:00:00Z", "2026-01-05T00:00:00Z", "2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"],
    "updated_after": ["2026-02-14T21:00:00Z", "2026-02-05T00:00:00Z", "2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"],
    "updated_before": ["2026-02-01T03:00:00Z", "2026-02-05T00:00:00Z", "2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"],
}

#: Filters that leave many rows whatever their value: 2 % of the table are deprecated.
WIDE = {"is_deprecated"}

PAGING = {"order_by", "descending", "limit", "cursor"}

#: A place in the middle of each order.
PLACES: dict[str, Any] = {
    "created_at": "2026-01-07T00:00:00+00:00",
    "updated_at": "2026-02-07T00:00:00+00:00",
    "pattern_name": "parse_5",
    "confidence_score": 0.5,
    "success_rate": 0.5,
    "usage_count": 2_500,
}

#: The first column of each index: a condition on later ones alone reads the index from end to end.
LEADING: dict[str, str] = {}

Plan = dict[str, Any]


@pytest.fixture(scope="module")
def planner(shared_database_url: str) -> Iterator[psycopg.Connection]:
    """A connection to the full table, its statistics fresh."""
    with psycopg.connect(shared_database_url, autocommit=True) as connection:
        connection.execute(FILL)
        connection.execute("VACUUM ANALYZE pattern_templates")
        firsts = connection.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid, 1, true) FROM pg_index"
            " WHERE indrelid = 'pattern_templates'::regclass"
        )
        LEADING.update(firsts.fetchall())
        yield connection


def nodes(plan: Plan) -> Iterator[Plan]:
    """Walk a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def explain(planner: psycopg.Connection, params: dict[str, Any], *, analyze: bool = False) -> list[Plan]:
    """Return the nodes of the plan for a query as `Query` sends it; with `analyze`, of its execution."""
    statement, values = Query(QueryParams.model_validate(params)).statement()
    row = planner.execute(
        SQL("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " if analyze else "EXPLAIN (FORMAT JSON) ") + statement,
        values,
        prepare=False,
    ).fetchone()
    assert row is not None
    return list(nodes(row[0][0]["Plan"]))


def orders() -> Iterator[dict[str, Any]]:
    """Every order both ways, at its beginning and in its middle."""
    yield {}
    for order_by in ORDERS:
        for descending in (True, False):
            yield {"order_by": order_by, "descending": descending}
            place = Cursor(order_by, descending, PLACES[order_by], UUID(FIRST)).encode()
            yield {"order_by": order_by, "descending": descending, "cursor": place}
