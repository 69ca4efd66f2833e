"""Queries on a real database: what each filter lets through, every order, and pages that meet each row once."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from pattern_storage.storage.operations.paging import Cursor
from pattern_storage.storage.operations.query import MAX_PAGE_BYTES
from pattern_storage.storage.operations.query_params import QueryParams, SortColumn
from pattern_storage.storage.pattern import MAX_TEXT_BYTES
from tests.fix_storage import Connection, Node, fail, make_pattern, succeed

Row = dict[str, Any]

ORDERS = get_args(SortColumn)
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


async def write(connection: Connection, rows: Iterable[Row]) -> None:
    """Insert rows with columns that contracts cannot set."""
    for row in rows:
        values: dict[str, Any] = {"template_code": "x"} | row
        if "context" in values:
            values["context"] = Jsonb(values["context"])
        places = ", ".join(f"%({name})s" for name in values)
        statement = f"INSERT INTO pattern_templates ({', '.join(values)}) VALUES ({places})"
        await connection.execute(statement.encode(), values)


@pytest.fixture
async def three(connection: Connection) -> None:
    """The three rows, there before the test begins."""
    await write(connection, ROWS)


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


#: Every order both ways.
BOTH_WAYS = [{"order_by": order_by, "descending": descending} for order_by in ORDERS for descending in (True, False)]


async def test_every_order_both_ways(node: Node, connection: Connection) -> None:
    """Twelve rows with four values a column, so that ties are put in order by the id."""
    await write(connection, tied_rows(12))
    for order in BOTH_WAYS:
        data = await succeed(node, "query", query_params=order)
        places = [(record[order["order_by"]], record["id"]) for record in data["patterns"]]
        assert len(places) == 12
        assert places == sorted(places, reverse=order["descending"]), order
        assert len({value for value, _ in places}) == 4


def tied_rows(count: int, start: int = 0) -> list[Row]:
    """Rows of which only every fourth differs in the columns of an order; their ids are scattered."""
    return [
        {
            "id": UUID(int=(n * 7919 + 13) % 100_003),
            "pattern_name": f"name {n % 4}",
            "pattern_type": f"type {n}",
            "language": "python",
            "confidence_score": (0.1, 0.1 + 0.2, 0.5, 1 / 3)[n % 4],
            "success_rate": (0.0, 5e-324, 0.7, 1.0)[n % 4],
            "usage_count": (0, 9, 10, 2**31 - 1)[n % 4],
            "created_at": f"2026-01-0{n % 4 + 1}T00:00:00.12345{n % 4}Z",
            "updated_at": f"2026-01-0{4 - n % 4}T00:00:00Z",
        }
        for n in range(start, start + count)
    ]


async def pages(node: Node, **params: Any) -> list[list[Row]]:
    """Walk a query to its end."""
    found = []
    cursor = None
    while True:
        data = await succeed(node, "query", query_params=params | ({"cursor": cursor} if cursor else {}))
        assert data["count"] == len(data["patterns"]) <= params["limit"]
        assert data["has_more"] == (data["next_cursor"] is not None)
        found.append(data["patterns"])
        cursor = data["next_cursor"]
        if cursor is None:
            return found
        assert len(data["patterns"]) == params["limit"]


async def test_pages_meet_every_row_once(node: Node, connection: Connection) -> None:
    await write(connection, tied_rows(23))
    for order in BOTH_WAYS:
        whole = await succeed(node, "query", query_params=order)
        for limit in (1, 4, 22, 23, 24):
            found = await pages(node, **order, limit=limit)
            assert [record for page in found for record in page] == whole["patterns"], (order, limit)
            assert len(found) == -(-23 // limit)


async def test_pages_keep_their_filters(node: Node, connection: Connection) -> None:
    await write(connection, tied_rows(40))
    found = await pages(node, pattern_name="name 2", min_confidence=0.5, limit=3)
    assert [record["pattern_name"] for page in found for record in page] == ["name 2"] * 10
    assert len({record["id"] for page in found for record in page}) == 10


@pytest.mark.parametrize("descending", [True, False])
async def test_rows_inserted_or_deleted_between_pages_shift_nothing(
    node: Node, connection: Connection, descending: bool
) -> None:
    """Whatever comes and goes meanwhile, a walk meets every row that was there at its start, and none twice."""
    for order_by in ORDERS:
        await connection.execute("DELETE FROM pattern_templates")
        first = tied_rows(20)
        await write(connection, first)
        walk = {"order_by": order_by, "descending": descending, "limit": 3}
        seen: list[str] = []
        start = 20
        while True:
            data = await succeed(node, "query", query_params=walk)
            seen += [record["id"] for record in data["patterns"]]
            if not data["has_more"]:
                break
            walk["cursor"] = data["next_cursor"]
            if start < 60:
                await write(connection, tied_rows(4, start))
                start += 4
                # The row that the cursor stands on goes: the place stays.
                await connection.execute("DELETE FROM pattern_templates WHERE id = %s", [seen[-1]])
        assert len(seen) == len(set(seen))
        assert {str(row["id"]) for row in first} <= set(seen)


async def test_limit_and_its_default(node: Node) -> None:
    await succeed(node, "batch_insert", patterns=[make_pattern() for _ in range(1_001)])
    for params, count in (({}, 50), ({"limit": 1}, 1), ({"limit": 1000}, 1000)):
        data = await succeed(node, "query", query_params=params)
        assert (data["count"], len(data["patterns"]), data["has_more"]) == (count, count, True)
        assert data["next_cursor"]
    for limit in (0, 1001):
        result = await fail(node, "query", query_params={"limit": limit})
        assert result.metadata["error_type"] == "validation_error"
        assert str(result.error).startswith("limit should be ")


async def test_a_table_without_rows(node: Node) -> None:
    assert await succeed(node, "query") == {"patterns": [], "count": 0, "has_more": False, "next_cursor": None}


async def test_a_page_that_ends_with_the_rows_has_no_next(node: Node) -> None:
    await succeed(node, "batch_insert", patterns=[make_pattern() for _ in range(3)])
    data = await succeed(node, "query", query_params={"limit": 3})
    assert (data["count"], data["has_more"], data["next_cursor"]) == (3, False, None)


async def test_a_cursor_of_another_order_or_a_broken_one_is_refused(node: Node, connection: Connection) -> None:
    await write(connection, tied_rows(3))
    cursor = (await succeed(node, "query", query_params={"limit": 1}))["next_cursor"]
    for params in (
        {"cursor": cursor, "descending": False},
        {"cursor": cursor, "order_by": "updated_at"},
        {"cursor": cursor[:-3]},
        {"cursor": cursor[3:]},
        {"cursor": cursor + "AAAA"},
        {"cursor": "'; DROP TABLE pattern_templates; --"},
    ):
        result = await fail(node, "query", query_params=params)
        assert result.metadata["error_type"] == "validation_error"
        assert result.error == "cursor is not the next_cursor of a query in this order; start again without it"


async def test_a_cursor_forged_with_care_is_only_a_place(node: Node, connection: Connection) -> None:
    """A cursor is not signed: it can name any place, and never anything but one."""
    await write(connection, tied_rows(8))
    forged = Cursor("pattern_name", False, "name 1' OR true --", UUID(int=0)).encode()
    data = await succeed(
        node, "query", query_params={"order_by": "pattern_name", "descending": False, "cursor": forged}
    )
    assert {record["pattern_name"] for record in data["patterns"]} == {"name 2", "name 3"}


@pytest.mark.parametrize("time_zone", ["UTC", "Pacific/Kiritimati", "America/St_Johns"])
async def test_pages_do_not_depend_on_the_time_zone_of_a_session(
    node: Node, connection: Connection, database_url: str, time_zone: str
) -> None:
    await write(connection, tied_rows(10))
    name = database_url.rsplit("/", 1)[1]
    await connection.execute(f"ALTER DATABASE {name} SET timezone = '{time_zone}'")
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await node.pool.check()
    found = await pages(node, limit=3)
    flat = [record for page in found for record in page]
    assert len(flat) == len({record["id"] for record in flat}) == 10
    times = [datetime.fromisoformat(record["created_at"]) for record in flat]
    assert times == sorted(times, reverse=True)


async def test_a_page_ends_before_it_is_too_large_for_redis(node: Node) -> None:
    """By the size of its texts as they are, however well they compress; the cursor goes on after what was left out."""
    names = [f"large {number:02}" for number in range(20)]
    large = {"template_code": "x" * MAX_TEXT_BYTES, "context": {"filler": "y" * 100_000}}
    await succeed(node, "batch_insert", patterns=[make_pattern(pattern_name=name, **large) for name in names])
    met: list[str] = []
    pages = 0
    cursor: dict[str, str] = {}
    while True:
        params = {"order_by": "pattern_name", "descending": False, "limit": 1000} | cursor
        data = await succeed(node, "query", query_params=params)
        assert sum(len(pattern["template_code"]) for pattern in data["patterns"]) <= MAX_PAGE_BYTES + MAX_TEXT_BYTES
        met += [pattern["pattern_name"] for pattern in data["patterns"]]
        pages += 1
        if not data["has_more"]:
            break
        cursor = {"cursor": data["next_cursor"]}
    assert (met, pages) == (names, 2)
