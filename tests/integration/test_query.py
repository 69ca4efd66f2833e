"""Queries on a real database: what each filter lets through."""

from collections import defaultdict
from typing import Any
from uuid import UUID, uuid4

import pytest

from pattern_storage.storage.operations.query_params import QueryParams
from tests.fix_storage import Connection, Node, succeed, write_rows

Row = dict[str, Any]


EARLY, LATE, LATER = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"


A, B, C = (UUID(int=n + 1) for n in range(3))


#: Three rows that differ in everything a filter looks at.
ROWS: list[Row] = [
    {
        "id": A,
        "pattern_name": "100%_sure\\thing",
        "pattern_type": "function",
        "language": "python",
        "category": "alpha",
        "created_by": "ann",
        "is_deprecated": False,
        "parent_pattern_id": None,
        "tags": ["x", "y"],
        "context": {"a": {"b": 1, "c": [1, 2]}, "k": None},
        "confidence_score": 0.2,
        "success_rate": 0.9,
        "created_at": EARLY,
        "updated_at": LATER,
    },
    {
        "id": B,
        "pattern_name": "100 percent Unsure",
        "pattern_type": "class",
        "language": "go",
        "category": None,
        "created_by": "system",
        "is_deprecated": True,
        "parent_pattern_id": A,
        "tags": [],
        "context": {},
        "confidence_score": 0.5,
        "success_rate": 0.5,
        "created_at": LATE,
        "updated_at": LATE,
    },
    {
        "id": C,
        "pattern_name": "ÄRGER",
        "pattern_type": "Function",
        "language": "Python",
        "category": "Alpha",
        "created_by": "Ann",
        "is_deprecated": False,
        "parent_pattern_id": B,
        "tags": ["y", "a,b", 'q"'],
        "context": {"a": {"b": 2}, "k": "v"},
        "confidence_score": 1.0,
        "success_rate": 0.0,
        "created_at": LATER,
        "updated_at": EARLY,
    },
]


@pytest.fixture
async def three(connection: Connection) -> None:
    """The three rows, there before the test begins."""
    await write_rows(connection, ROWS)


#: filter: what it is given, and which of the rows then come, the newest first.
CASES: list[tuple[dict[str, Any], list[UUID]]] = [
    ({}, [C, B, A]),
    ({"id": A}, [A]),
    ({"id": str(B)}, [B]),
    ({"id": uuid4()}, []),
    ({"pattern_name": "ÄRGER"}, [C]),
    ({"pattern_name": "ärger"}, []),
    ({"pattern_name": "100"}, []),
    ({"pattern_type": "function"}, [A]),
    ({"pattern_type": "func"}, []),
    ({"language": "python"}, [A]),
    ({"language": "Go"}, []),
    ({"category": "alpha"}, [A]),
    ({"category": ""}, []),
    ({"category": None}, [C, B, A]),
    ({"created_by": "ann"}, [A]),
    ({"created_by": "bob"}, []),
    ({"is_deprecated": True}, [B]),
    ({"is_deprecated": False}, [C, A]),
    ({"parent_pattern_id": A}, [B]),
    ({"parent_pattern_id": C}, []),
    ({"name_contains": "sure"}, [B, A]),
    ({"name_contains": "UNSURE"}, [B]),
    ({"name_contains": "ärg"}, [C]),
    ({"name_contains": "%"}, [A]),
    ({"name_contains": "_"}, [A]),
    ({"name_contains": "100%"}, [A]),
    ({"name_contains": "0_s"}, []),
    ({"name_contains": "100%sure"}, []),
    ({"name_contains": "\\"}, [A]),
    ({"name_contains": "\\t"}, [A]),
    ({"name_contains": "\\\\"}, []),
    ({"name_contains": "\\%"}, []),
    ({"name_contains": "e"}, [C, B, A]),
    ({"name_contains": "'"}, []),
    ({"tags_any": ["x"]}, [A]),
    ({"tags_any": ["x", "y", "z"]}, [C, A]),
    ({"tags_any": ["z"]}, []),
    ({"tags_any": ["a,b"]}, [C]),
    ({"tags_any": ["a"]}, []),
    ({"tags_any": ['q"']}, [C]),
    ({"tags_all": ["y"]}, [C, A]),
    ({"tags_all": ["y", "x"]}, [A]),
    ({"tags_all": ["x", "z"]}, []),
    ({"tags_all": ["y", "y"]}, [C, A]),
    ({"context_contains": {"a": {"b": 1}}}, [A]),
    ({"context_contains": {"a": {"c": [2]}}}, [A]),
    ({"context_contains": {"a": {}}}, [C, A]),
    ({"context_contains": {"k": None}}, [A]),
    ({"context_contains": {"b": 1}}, []),
    ({"context_contains": {"a": {"b": "1"}}}, []),
    ({"context_contains": {}}, [C, B, A]),
    ({"min_confidence": 0.5}, [C, B]),
    ({"min_confidence": 1}, [C]),
    ({"min_confidence": 0}, [C, B, A]),
    ({"min_confidence": 0.5000000001}, [C]),
    ({"min_success_rate": 0.5}, [B, A]),
    ({"min_success_rate": 1.0}, []),
    ({"created_after": LATE}, [C, B]),
    ({"created_after": "2026-02-01T00:00:00.000001Z"}, [C]),
    ({"created_after": "2026-02-01T01:00:00+01:00"}, [C, B]),
    ({"created_before": LATE}, [A]),
    ({"created_before": EARLY}, []),
    ({"created_after": LATE, "created_before": LATER}, [B]),
    ({"created_after": LATER, "created_before": EARLY}, []),
    ({"updated_after": LATE}, [B, A]),
    ({"updated_after": "2026-04-01T00:00:00Z"}, []),
    ({"updated_before": LATE}, [C]),
    ({"updated_before": "2026-04-01T00:00:00Z"}, [C, B, A]),
    ({"language": "python", "category": "alpha", "tags_any": ["x"], "name_contains": "sure"}, [A]),
    ({"language": "python", "is_deprecated": True}, []),
]


@pytest.mark.usefixtures("three")
async def test_each_filter_lets_through_what_fits_and_nothing_else(node: Node) -> None:
    wrong = []
    for params, expected in CASES:
        data = await succeed(node, "query", query_params=params)
        found = [UUID(record["id"]) for record in data["patterns"]]
        if found != expected or data["count"] != len(expected) or data["has_more"]:
            wrong.append((params, found, expected))
    assert wrong == []


def test_every_filter_has_a_case_that_finds_and_one_that_does_not() -> None:
    counts = defaultdict(set)
    for params, expected in CASES:
        if len(params) == 1 and None not in params.values():
            [name] = params
            counts[name].add("some" if expected else "none")
            counts[name].add("not all" if len(expected) < len(ROWS) else "all")
    filters = set(QueryParams.model_fields) - {"order_by", "descending", "limit", "cursor"}
    positive = {name for name in counts if "some" in counts[name]}
    negative = {name for name in counts if "not all" in counts[name]}
    assert positive == negative == filters


async def test_a_table_without_rows(node: Node) -> None:
    assert await succeed(node, "query") == {"patterns": [], "count": 0, "has_more": False, "next_cursor": None}
