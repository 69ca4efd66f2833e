"""Parameters of queries: their rules and defaults, and cursors that were forged."""

import base64
import json
import math
from typing import Any
from uuid import UUID

import pytest

from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.operations import check
from pattern_storage.storage.operations.paging import Cursor
from pattern_storage.storage.operations.query import Query
from tests.fix_storage import contract

ID = UUID("01234567-89ab-cdef-0123-456789abcdef")


NUL = "must not contain a NUL character, PostgreSQL cannot store it"


REFUSED_PARAMETERS = [
    ({"limit": 0}, "limit should be greater than or equal to 1, got 0"),
    ({"limit": 1001}, "limit should be less than or equal to 1000, got 1001"),
    ({"limit": "10"}, "limit should be a valid integer, got '10'"),
    ({"limit": True}, "limit should be a valid integer, got True"),
    ({"limit": None}, "limit should be a valid integer, got None"),
    ({"order_by": "category"}, "order_by should be 'created_at', 'updated_at', 'pattern_name', "),
    ({"order_by": "id; DROP TABLE x"}, "order_by should be 'created_at', "),
    ({"descending": "yes"}, "descending should be a valid boolean, got 'yes'"),
    ({"langauge": "x"}, "unknown query parameter 'langauge'; did you mean 'language'?"),
    ({"offset": 1}, "unknown query parameter 'offset'; "),
    ({"min_confidence": 1.5}, "min_confidence should be less than or equal to 1, got 1.5"),
    ({"min_success_rate": -1}, "min_success_rate should be greater than or equal to 0, got -1"),
    ({"min_confidence": math.nan}, "min_confidence should be "),
    ({"tags_any": []}, "tags_any: List should have at least 1 item after validation, not 0, got list of 0"),
    ({"tags_all": "x"}, "tags_all should be a valid list, got 'x'"),
    ({"name_contains": ""}, "name_contains should have at least 1 character, got ''"),
    ({"category": "\x00"}, f"category: {NUL}, got '\\x00'"),
    ({"context_contains": [1]}, "context_contains should be a valid dictionary, got list of 1"),
    ({"id": "x"}, "id should be a valid UUID, "),
    ({"is_deprecated": 0}, "is_deprecated should be a valid boolean, got 0"),
    (
        {"created_after": "2026-01-31T12:00:00"},
        "created_after: must have a time zone, for example 2026-01-31T12:00:00Z, got '2026-01-31T12:00:00'",
    ),
    ({"updated_before": "yesterday"}, "updated_before should be a valid datetime"),
]


@pytest.mark.parametrize(("parameters", "text"), REFUSED_PARAMETERS)
def test_a_query_parameter_that_breaks_a_rule(parameters: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractInvalid) as error:
        check(contract("query", query_params=parameters))
    assert str(error.value).startswith(text)


def test_query_defaults() -> None:
    query = check(contract("query"))
    assert isinstance(query, Query)
    assert (query.params.limit, query.params.order_by, query.params.descending) == (50, "created_at", True)
    assert query.params.filters() == {}


def cursor_text(*parts: Any) -> str:
    """Return a forged cursor."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


FORGED = [
    "",
    "x",
    "not a cursor",
    "é",
    "====",
    "A" * 100_000,
    cursor_text(),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00"),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00", str(ID), 1),
    cursor_text("created_at", False, "2026-01-31T12:00:00+00:00", str(ID)),
    cursor_text("updated_at", True, "2026-01-31T12:00:00+00:00", str(ID)),
    cursor_text("created_at", True, "yesterday", str(ID)),
    cursor_text("created_at", True, "2026-01-31T12:00:00", str(ID)),
    cursor_text("created_at", True, 5, str(ID)),
    cursor_text("created_at", True, None, str(ID)),
    cursor_text("created_at", True, ["2026-01-31T12:00:00+00:00"], str(ID)),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00", "x"),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00", 5),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00", None),
    cursor_text("created_at; DROP TABLE pattern_templates", True, 1, str(ID)),
    cursor_text({"a": 1}, True, 1, str(ID)),
]


@pytest.mark.parametrize("cursor", FORGED, ids=range(len(FORGED)))
def test_a_forged_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ContractInvalid) as error:
        check(contract("query", query_params={"cursor": cursor}))
    assert str(error.value) == "cursor is not the next_cursor of a query in this order; start again without it"


@pytest.mark.parametrize(
    ("order_by", "value"),
    [
        ("pattern_name", 1),
        ("pattern_name", None),
        ("pattern_name", "a\x00b"),
        ("pattern_name", "\ud800"),
        ("confidence_score", "0.5"),
        ("confidence_score", True),
        ("confidence_score", math.nan),
        ("confidence_score", math.inf),
        ("confidence_score", None),
        ("usage_count", "1"),
        ("usage_count", False),
        ("usage_count", [1]),
        ("usage_count", 10**400),
        ("success_rate", {}),
    ],
)
def test_a_cursor_with_a_value_its_column_never_has_is_refused(order_by: str, value: Any) -> None:
    forged = cursor_text(order_by, True, value, str(ID))
    with pytest.raises(ContractInvalid, match=r"^cursor is not the next_cursor of a query in this order"):
        check(contract("query", query_params={"cursor": forged, "order_by": order_by}))


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"a":1,"b":2,"c":3,"d":4}', "null", "\ufeff[]"])
def test_a_cursor_of_other_json_is_refused(text: str) -> None:
    forged = base64.urlsafe_b64encode(text.encode()).decode()
    with pytest.raises(ValueError, match="cursor is not"):
        Cursor.decode(forged, "created_at", True)


@pytest.mark.parametrize(
    ("order_by", "value"), [("pattern_name", "ü \u2028'"), ("usage_count", 3), ("success_rate", 0.1 + 0.2)]
)
def test_a_cursor_comes_back_as_it_was(order_by: str, value: Any) -> None:
    cursor = Cursor.of({order_by: value, "id": ID}, order_by, False)
    assert Cursor.decode(cursor.encode(), order_by, False) == cursor
