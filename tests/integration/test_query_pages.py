"""Orders and pages of queries: each row comes once, whatever changes between pages; cursors broken or forged."""

from datetime import datetime
from typing import Any, get_args
from uuid import UUID

import pytest

from pattern_storage.storage.operations.paging import Cursor
from pattern_storage.storage.operations.query import MAX_PAGE_BYTES
from pattern_storage.storage.operations.query_params import SortColumn
from pattern_storage.storage.pattern import MAX_TEXT_BYTES
from tests.fix_storage import Connection, Node, fail, make_pattern, succeed, write_rows

Row = dict[str, Any]


ORDERS = get_args(SortColumn)


#: Every order both ways.
BOTH_WAYS = [{"order_by": order_by, "descending": descending} for order_by in ORDERS for descending in (True, False)]


async def test_every_order_both_ways(node: Node, connection: Connection) -> None:
    """Twelve rows with four values a column, so that ties are put in order by the id."""
    await write_rows(connection, tied_rows(12))
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
    await write_rows(connection, tied_rows(23))
    for order in BOTH_WAYS:
        whole = await succeed(node, "query", query_params=order)
        for limit in (1, 4, 22, 23, 24):
            found = await pages(node, **order, limit=limit)
            assert [record for page in found for record in page] == whole["patterns"], (order, limit)
            assert len(found) == -(-23 // limit)


async def test_pages_keep_their_filters(node: Node, connection: Connection) -> None:
    await write_rows(connection, tied_rows(40))
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
        await write_rows(connection, first)
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
                await write_rows(connection, tied_rows(4, start))
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


async def test_a_page_that_ends_with_the_rows_has_no_next(node: Node) -> None:
    await succeed(node, "batch_insert", patterns=[make_pattern() for _ in range(3)])
    data = await succeed(node, "query", query_params={"limit": 3})
    assert (data["count"], data["has_more"], data["next_cursor"]) == (3, False, None)


async def test_a_cursor_of_another_order_or_a_broken_one_is_refused(node: Node, connection: Connection) -> None:
    await write_rows(connection, tied_rows(3))
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
    await write_rows(connection, tied_rows(8))
    forged = Cursor("pattern_name", False, "name 1' OR true --", UUID(int=0)).encode()
    data = await succeed(
        node, "query", query_params={"order_by": "pattern_name", "descending": False, "cursor": forged}
    )
    assert {record["pattern_name"] for record in data["patterns"]} == {"name 2", "name 3"}


@pytest.mark.parametrize("time_zone", ["UTC", "Pacific/Kiritimati", "America/St_Johns"])
async def test_pages_do_not_depend_on_the_time_zone_of_a_session(
    node: Node, connection: Connection, database_url: str, time_zone: str
) -> None:
    await write_rows(connection, tied_rows(10))
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
