"""No documented query reads or sorts the whole table: what PostgreSQL plans for the very statements we send.

The table, every filter and every order are in `tests/fix_query_plans.py`; a filter of QueryParams that is not there
fails here. `make test-plans` asks the same of 1,000,000 rows.
"""

from uuid import UUID

import psycopg
import pytest

from pattern_storage.storage.operations.paging import Cursor
from pattern_storage.storage.operations.query import Query
from pattern_storage.storage.operations.query_params import DEFAULT_LIMIT, QueryParams
from tests.fix_query_plans import (
    FILTERS,
    FIRST,
    LEADING,
    ORDERS,
    PAGING,
    PLACES,
    ROWS,
    TABLE,
    WIDE,
    Plan,
    explain,
    nodes,
    orders,
)  # fmt: skip

#: So many rows are few: fewer than a page of the largest size has.
FEW = min(ROWS // 100, 999)

#: A filter may sort the rows it leaves, where that costs less than walking an order's index: a quarter of the table
#: at most, and of a large one no more than some milliseconds' worth.
MAX_SORTED = min(ROWS // 4, 20_000)


def faults(plan: list[Plan]) -> list[str]:
    """Say what of a plan would not scale."""
    found = [f"{node['Node Type']} of all rows" for node in plan if node["Node Type"] == "Seq Scan"]
    for node in plan:
        if node["Node Type"] == "Sort" and node["Plans"][0]["Plan Rows"] > MAX_SORTED:
            found.append(f"Sort of {node['Plans'][0]['Plan Rows']} rows by {node['Sort Key']}")
    return found


def test_every_filter_has_a_plan_test() -> None:
    assert set(FILTERS) == set(QueryParams.model_fields) - PAGING
    assert set(PLACES) == set(ORDERS)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_reads_no_whole_table_in_any_order(planner: psycopg.Connection, name: str) -> None:
    """Pages up to the default size. 1,000 of the 2,000 rows that a wide filter leaves of this small table are better
    read in one go, and PostgreSQL knows it.
    """
    bad = [
        (value, order, found)
        for value in FILTERS[name]
        for order in orders()
        for limit in (1, DEFAULT_LIMIT)
        if (found := faults(explain(planner, {name: value, "limit": limit} | order)))
    ]
    assert bad == []


def rows_read(plan: list[Plan]) -> int:
    """The rows that the scans of an executed plan looked at, those they threw away included."""
    scans = [node for node in plan if "Relation Name" in node]
    counted = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(int(node.get(key, 0)) for node in scans for key in counted)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_leaves_few_rows_reads_few(planner: psycopg.Connection, name: str) -> None:
    """No Seq Scan is not enough: an order's index read from end to end is one in disguise."""
    few = 0
    for value in FILTERS[name]:
        params = {name: value, "limit": 1000}
        if len(planner.execute(*Query(QueryParams.model_validate(params)).statement()).fetchall()) > FEW:
            continue
        few += 1
        for order in ({}, *({"order_by": order_by} for order_by in ORDERS)):
            plan = explain(planner, {name: value} | order, analyze=True)
            assert rows_read(plan) <= ROWS // 20, (value, order, plan)
            conditions = [(node["Index Cond"], LEADING[node["Index Name"]]) for node in plan if "Index Cond" in node]
            assert all(leading in condition for condition, leading in conditions), (value, order, plan)
    assert few or name in WIDE


@pytest.mark.parametrize("name", ["category", "created_by"])
def test_a_page_of_rows_that_lie_together_reads_only_the_page(planner: psycopg.Connection, name: str) -> None:
    """Rows of one import are neighbours: walking the default order until they come would read nearly all others."""
    for descending in (True, False):
        plan = explain(planner, {name: "imported long ago", "descending": descending}, analyze=True)
        assert rows_read(plan) <= DEFAULT_LIMIT + 1, plan


@pytest.mark.parametrize("name", ["category", "created_by"])
def test_a_value_that_does_not_exist_is_taken_for_rare(planner: psycopg.Connection, name: str) -> None:
    """Without statistics PostgreSQL takes it for one row in two hundred, and walks another order's index to the end."""
    plan = explain(planner, {name: "none of that name", "order_by": "updated_at"})
    [scan] = [node for node in plan if node.get("Relation Name") == TABLE]
    assert scan["Plan Rows"] <= ROWS // 2_000, plan


def test_long_texts_are_told_apart(planner: psycopg.Connection) -> None:
    """A btree cannot hold them: the index has the first hundred characters, and the rest is compared."""
    start = "ä" * 100
    with planner.transaction(force_rollback=True):
        for column in ("category", "created_by"):
            for end in ("", "x", "y" * 1_000_000):
                values = f"repeat('{column}', 3) || length(%s), 't', 'l', 'c', %s"
                planner.execute(
                    f"INSERT INTO {TABLE} (pattern_name, pattern_type, language, template_code, {column})"
                    f" VALUES ({values})".encode(),
                    [end, start + end],
                )
            for end, found in (("", 1), ("x", 1), ("y" * 1_000_000, 1), ("z", 0)):
                params = {column: start + end}
                rows = planner.execute(*Query(QueryParams.model_validate(params)).statement()).fetchall()
                assert len(rows) == found, (column, end[:1])
                assert faults(explain(planner, params)) == []


@pytest.mark.parametrize("limit", [1, 50, 1000])
def test_an_order_without_filters_sorts_nothing(planner: psycopg.Connection, limit: int) -> None:
    for order in orders():
        # The sums that end a page early go along the order that is there.
        plan = explain(planner, {"limit": limit} | order)
        kinds = [kind for node in plan if (kind := node["Node Type"]) not in ("Result", "Subquery Scan", "WindowAgg")]
        # The unique key's index has the names in order; the few rows that share a name are put in order of their ids.
        presorted = ["Incremental Sort"] if order.get("order_by") == "pattern_name" else []
        assert kinds == ["Limit", *presorted, "Index Scan"], (order, kinds)


def test_a_missing_index_would_be_seen(planner: psycopg.Connection) -> None:
    """The tests above can fail: without an index the order sorts, and the filter reads, all rows."""
    with planner.transaction(force_rollback=True):
        planner.execute("DROP INDEX pattern_templates_usage_count, pattern_templates_category_created_at")
        assert faults(explain(planner, {"order_by": "usage_count"}))
        assert "Seq Scan" in [
            node["Node Type"] for node in explain(planner, {"category": "none", "order_by": "usage_count"})
        ]


def test_every_index_is_of_use(planner: psycopg.Connection) -> None:
    """An index that no documented query takes only costs: each must appear in some plan."""
    used = set()
    for name, values in FILTERS.items():
        for value in values:
            for order in orders():
                used |= {node.get("Index Name") for node in explain(planner, {name: value} | order)}
    for order in orders():
        used |= {node.get("Index Name") for node in explain(planner, order)}
    rows = planner.execute("SELECT indexname FROM pg_indexes WHERE tablename = %s", [TABLE]).fetchall()
    assert {row[0] for row in rows} - used == set()


def test_the_cursor_is_an_index_condition(planner: psycopg.Connection) -> None:
    """A deep page costs what the first does: the index starts at the place instead of skipping to it."""
    for order_by in ORDERS:
        for descending in (True, False):
            place = Cursor(order_by, descending, PLACES[order_by], UUID(FIRST)).encode()
            plan = explain(planner, {"order_by": order_by, "descending": descending, "cursor": place})
            [scan] = [node for node in plan if "Index Name" in node]
            assert order_by in scan["Index Cond"], (order_by, descending)


def test_the_foreign_key_of_a_deleted_parent_has_its_index(planner: psycopg.Connection) -> None:
    """What the foreign key's trigger asks, see RI_FKey_noaction_del in PostgreSQL's ri_triggers.c."""
    row = planner.execute(
        "EXPLAIN (FORMAT JSON) SELECT 1 FROM ONLY pattern_templates x WHERE %s OPERATOR(pg_catalog.=) parent_pattern_id"
        " FOR KEY SHARE OF x",
        [UUID(FIRST)],
    ).fetchone()
    assert row is not None
    assert "pattern_templates_parent" in [node.get("Index Name") for node in nodes(row[0][0]["Plan"])]
