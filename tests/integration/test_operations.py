"""The five operations on a real database: what they return, what they write, and what a failure leaves behind."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow

from pattern_storage.storage import ModelPatternRecord, ModelResult
from pattern_storage.storage.operations import OPERATIONS
from pattern_storage.storage.operations.insert import Insert
from pattern_storage.storage.pattern import COLUMNS, WRITABLE
from tests.fix_storage import Connection, Node, contract, fail, make_pattern, succeed

FULL = {
    "category": "naïve",
    "description": "';DROP TABLE pattern_templates;--",
    "example_usage": "\\N\t\r\n\\.",
    "source": "C:\\new",
    "confidence_score": 0.1 + 0.2,
    "usage_count": 2**31 - 1,
    "success_rate": 5e-324,
    "complexity_score": 10,
    "maintainability_score": 0.0,
    "performance_score": 1.0,
    "is_deprecated": True,
    "created_by": "",
    "tags": ["", "NULL", 'a"b', "a,b", "{}", "\\", "ü\U0001f600"],
    "context": {"a": [1, None, True, 1.5, {"b": "\u2028\\u0000"}], "": {}, "big": 2**70},
}


async def rows(connection: Connection) -> list[DictRow]:
    return await (await connection.execute("SELECT * FROM pattern_templates ORDER BY id")).fetchall()


async def row(connection: Connection, pattern_id: str) -> DictRow:
    cursor = await connection.execute("SELECT * FROM pattern_templates WHERE id = %s", [pattern_id])
    found = await cursor.fetchone()
    assert found is not None
    return found


async def database_time(connection: Connection) -> datetime:
    found = await (await connection.execute("SELECT clock_timestamp() AS now")).fetchone()
    assert found is not None
    now: datetime = found["now"]
    return now


def assert_metadata(result: ModelResult, correlation_id: UUID, operation: str, error_type: str | None = None) -> None:
    expected = {"correlation_id", "operation", "duration_ms"} | ({"error_type"} if error_type else set())
    assert set(result.metadata) - {"failed_index"} == expected
    assert result.metadata["correlation_id"] == str(correlation_id)
    assert result.metadata["operation"] == operation
    assert result.metadata["duration_ms"] > 0
    assert result.metadata.get("error_type") == error_type
    assert (result.data is None, result.error is None) == (not result.success, result.success)
    assert ModelResult.model_validate(result.to_dict()) == result


# insert


async def test_insert_returns_and_writes(node: Node, connection: Connection) -> None:
    parent = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    asked = contract("insert", data=make_pattern(**FULL, parent_pattern_id=parent))
    before = await database_time(connection)
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "insert")
    assert set(result.data) == {"pattern_id", "pattern_name", "created_at"}
    assert result.data["pattern_name"] == asked.data["pattern_name"]
    written = await row(connection, result.data["pattern_id"])
    assert {name: written[name] for name in asked.data} == asked.data | {"parent_pattern_id": UUID(parent)}
    assert datetime.fromisoformat(result.data["created_at"]) == written["created_at"] == written["updated_at"]
    assert before <= written["created_at"] <= await database_time(connection)


async def test_insert_of_the_least_takes_the_defaults_of_the_table(node: Node, connection: Connection) -> None:
    data = make_pattern()
    ours = await row(connection, (await succeed(node, "insert", data=data))["pattern_id"])
    cursor = await connection.execute(
        "INSERT INTO pattern_templates (pattern_name, pattern_type, language, template_code)"
        " VALUES ('x', 'function', 'python', %s) RETURNING *",
        [data["template_code"]],
    )
    theirs = await cursor.fetchone()
    assert theirs is not None
    own = {"id", "pattern_name", "created_at", "updated_at"}
    assert tuple(ours) == COLUMNS
    assert {key: ours[key] for key in ours if key not in own} == {key: theirs[key] for key in theirs if key not in own}


async def test_the_same_contract_twice_does_it_twice(node: Node, connection: Connection) -> None:
    asked = contract("insert", data=make_pattern(pattern_name="a, b) (c", pattern_type="t, u", language="l"))
    assert (await node.execute_effect(asked)).success
    before = await rows(connection)
    again = await node.execute_effect(asked)
    assert_metadata(again, asked.correlation_id, "insert", "unique_violation")
    assert again.error == "Pattern already exists: a, b) (c (t, u/l)"
    assert await rows(connection) == before
    assert len(before) == 1


async def test_a_key_differs_if_one_part_does(node: Node, connection: Connection) -> None:
    for changes in ({}, {"pattern_name": "X"}, {"pattern_type": "y"}, {"language": "z"}):
        await succeed(node, "insert", data=make_pattern(pattern_name="x") | changes)
    assert len(await rows(connection)) == 4


async def test_a_parent_that_does_not_exist(node: Node, connection: Connection) -> None:
    parent = uuid4()
    asked = contract("insert", data=make_pattern(parent_pattern_id=parent))
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "insert", "foreign_key_violation")
    assert result.error == f"Invalid reference (foreign key violation): parent_pattern_id {parent} does not exist"
    assert await rows(connection) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"confidence_score": 1.5}, "confidence_score should be less than or equal to 1, got 1.5"),
        ({"pattern_name": "a\x00"}, "pattern_name: must not contain a NUL character"),
        ({"confidense_score": 1}, "unknown column 'confidense_score'; did you mean 'confidence_score'?"),
        ({"id": str(uuid4())}, "id is set by the database and cannot be written"),
    ],
)
async def test_a_bad_value_is_refused_before_the_database_sees_it(
    node: Node, connection: Connection, changes: dict[str, Any], text: str
) -> None:
    asked = contract("insert", data=make_pattern(**changes))
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "insert", "validation_error")
    assert str(result.error).startswith(text)
    assert await rows(connection) == []


async def test_the_largest_key_fits_its_index(node: Node) -> None:
    """Unicode of four bytes a character: 1,620 bytes, under the 2,704 of a btree entry, even incompressible."""
    name, kind, language = (
        "".join(chr(0x10000 + (seed * 7919 + n * 104729) % 0xF0000) for n in range(length))
        for seed, length in ((1, 255), (2, 100), (3, 50))
    )
    data = make_pattern(
        pattern_name=name, pattern_type=kind, language=language, category=name * 50, created_by=name * 50
    )
    await succeed(node, "insert", data=data)
    found = await succeed(node, "query", query_params={"category": name * 50, "created_by": name * 50})
    assert found["count"] == 1


async def test_of_many_equal_inserts_at_once_one_wins(node: Node, connection: Connection) -> None:
    data = make_pattern()
    results = await asyncio.gather(*(node.execute_effect(contract("insert", data=data)) for _ in range(30)))
    assert sorted(str(result.metadata.get("error_type")) for result in results) == ["None"] + ["unique_violation"] * 29
    assert len(await rows(connection)) == 1


# update


async def test_update_writes_the_changed_columns_and_the_time(node: Node, connection: Connection) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    other = await succeed(node, "insert", data=make_pattern())
    before, bystander = await row(connection, made["pattern_id"]), await row(connection, other["pattern_id"])
    asked = contract("update", pattern_id=made["pattern_id"], data={"usage_count": 7, "category": "new"})
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "update")
    assert set(result.data) == {"pattern_id", "pattern_name", "updated_at", "fields_updated"}
    assert result.data["fields_updated"] == ["usage_count", "category"]
    assert (result.data["pattern_id"], result.data["pattern_name"]) == (made["pattern_id"], made["pattern_name"])
    after = await row(connection, made["pattern_id"])
    changed = {"usage_count": 7, "category": "new", "updated_at": after["updated_at"]}
    assert after == before | changed
    assert after["updated_at"] > before["updated_at"]
    assert datetime.fromisoformat(result.data["updated_at"]) == after["updated_at"]
    assert await row(connection, other["pattern_id"]) == bystander


async def test_every_column_can_be_updated_alone(node: Node, connection: Connection) -> None:
    parent = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    for column in WRITABLE:
        made = await succeed(node, "insert", data=make_pattern())
        before = await row(connection, made["pattern_id"])
        value = (FULL | {"parent_pattern_id": parent}).get(column, "changed")
        data = await succeed(node, "update", pattern_id=made["pattern_id"], data={column: value})
        after = await row(connection, made["pattern_id"])
        expected = UUID(parent) if column == "parent_pattern_id" else value
        assert after == before | {column: expected, "updated_at": after["updated_at"]}
        assert before[column] != after[column]
        assert data["fields_updated"] == [column]
        assert data["pattern_name"] == after["pattern_name"]
        await succeed(node, "delete", pattern_id=made["pattern_id"])


async def test_update_to_null(node: Node, connection: Connection) -> None:
    made = await succeed(node, "insert", data=make_pattern(**FULL))
    columns = ("category", "description", "example_usage", "source", "complexity_score", "performance_score")
    await succeed(node, "update", pattern_id=made["pattern_id"], data=dict.fromkeys(columns))
    after = await row(connection, made["pattern_id"])
    assert [after[column] for column in columns] == [None] * len(columns)
    assert after["tags"] == FULL["tags"]


async def test_update_to_a_key_that_is_taken(node: Node, connection: Connection) -> None:
    await succeed(node, "insert", data=make_pattern(pattern_name="taken, (x)", pattern_type="t", language="l"))
    made = await succeed(node, "insert", data=make_pattern(pattern_type="t", language="l"))
    before = await rows(connection)
    asked = contract("update", pattern_id=made["pattern_id"], data={"pattern_name": "taken, (x)"})
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "update", "unique_violation")
    assert result.error == "Pattern already exists: taken, (x) (t/l)"
    assert await rows(connection) == before


async def test_update_to_an_unknown_parent(node: Node, connection: Connection) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    before, parent = await rows(connection), uuid4()
    result = await fail(node, "update", pattern_id=made["pattern_id"], data={"parent_pattern_id": parent})
    assert result.metadata["error_type"] == "foreign_key_violation"
    assert result.error == f"Invalid reference (foreign key violation): parent_pattern_id {parent} does not exist"
    assert await rows(connection) == before


@pytest.mark.parametrize("operation", ["update", "delete"])
async def test_a_pattern_that_is_not_there(node: Node, operation: str) -> None:
    asked = contract(operation, pattern_id=uuid4(), **({"data": {"usage_count": 1}} if operation == "update" else {}))
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, operation, "validation_error")
    assert result.error == f"Pattern not found: {asked.pattern_id}"


@pytest.mark.parametrize("changes", [{"usage_count": -1}, {"updated_at": "2026-01-01T00:00:00Z"}, {"tag": ["x"]}])
async def test_a_bad_update_changes_nothing(node: Node, connection: Connection, changes: dict[str, Any]) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    before = await rows(connection)
    result = await fail(node, "update", pattern_id=made["pattern_id"], data={"category": "x"} | changes)
    assert result.metadata["error_type"] == "validation_error"
    assert next(iter(changes)) in str(result.error)
    assert await rows(connection) == before


async def test_updated_at_moves_with_every_update(node: Node) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    times = [made["created_at"]]
    for _ in range(3):
        data = await succeed(node, "update", pattern_id=made["pattern_id"], data={"category": "the same"})
        times.append(data["updated_at"])
    moments = [datetime.fromisoformat(time) for time in times]
    assert moments == sorted(set(moments))


# delete


async def test_delete_takes_one_row_away(node: Node, connection: Connection) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    other = await succeed(node, "insert", data=make_pattern())
    asked = contract("delete", pattern_id=made["pattern_id"])
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "delete")
    assert result.data == {"pattern_id": made["pattern_id"], "pattern_name": made["pattern_name"], "deleted": True}
    assert [str(left["id"]) for left in await rows(connection)] == [other["pattern_id"]]
    again = await node.execute_effect(asked)
    assert_metadata(again, asked.correlation_id, "delete", "validation_error")
    assert again.error == f"Pattern not found: {made['pattern_id']}"


async def test_a_parent_stays_while_it_has_children(node: Node, connection: Connection) -> None:
    parent = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    child = (await succeed(node, "insert", data=make_pattern(parent_pattern_id=parent)))["pattern_id"]
    before = await rows(connection)
    asked = contract("delete", pattern_id=parent)
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "delete", "foreign_key_violation")
    assert result.error == (
        f"Invalid reference (foreign key violation): pattern {parent} is the parent of other patterns"
    )
    assert await rows(connection) == before
    await succeed(node, "delete", pattern_id=child)
    await succeed(node, "delete", pattern_id=parent)
    assert await rows(connection) == []


async def test_a_pattern_may_be_its_own_parent_and_still_go(node: Node, connection: Connection) -> None:
    made = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    await succeed(node, "update", pattern_id=made, data={"parent_pattern_id": made})
    await succeed(node, "delete", pattern_id=made)
    assert await rows(connection) == []


# batch_insert


async def test_a_batch_returns_ids_and_names_in_input_order(node: Node, connection: Connection) -> None:
    parent = (await succeed(node, "insert", data=make_pattern(pattern_name="parent")))["pattern_id"]
    names = ["m", "z", "a", "Z", "ä", "10", "9", "a b", "~", "A"]
    patterns = [make_pattern(pattern_name=name, source=f"from {name}") for name in names]
    patterns[3] |= FULL | {"parent_pattern_id": parent}
    asked = contract("batch_insert", patterns=patterns)
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "batch_insert")
    assert set(result.data) == {"pattern_ids", "pattern_names", "count", "batch_success"}
    assert (result.data["count"], result.data["batch_success"]) == (10, True)
    assert result.data["pattern_names"] == names
    assert len(await rows(connection)) == 11
    for pattern_id, pattern in zip(result.data["pattern_ids"], patterns, strict=True):
        written = await row(connection, pattern_id)
        expected = pattern | ({"parent_pattern_id": UUID(parent)} if pattern is patterns[3] else {})
        assert {name: written[name] for name in pattern} == expected


async def test_a_batch_and_an_insert_write_the_same(node: Node, connection: Connection) -> None:
    data = make_pattern(**FULL)
    one = (await succeed(node, "insert", data=data | {"pattern_name": "one"}))["pattern_id"]
    [two] = (await succeed(node, "batch_insert", patterns=[data | {"pattern_name": "two"}]))["pattern_ids"]
    own = ("id", "pattern_name", "created_at", "updated_at")
    single, batched = [
        {name: value for name, value in (await row(connection, pattern_id)).items() if name not in own}
        for pattern_id in (one, two)
    ]
    assert single == batched


BAD_ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "bad value": ({"confidence_score": 2}, "validation_error", "confidence_score should be less than or equal to 1"),
    "NUL": ({"description": "\x00"}, "validation_error", "description: must not contain a NUL character"),
    "unknown column": ({"taggs": []}, "validation_error", "unknown column 'taggs'; did you mean 'tags'?"),
    "existing twin": ({"pattern_name": "taken"}, "unique_violation", "Pattern already exists: taken (function/python)"),
    "unknown parent": (
        {"parent_pattern_id": "01234567-89ab-cdef-0123-456789abcdef"},
        "foreign_key_violation",
        "Invalid reference (foreign key violation): parent_pattern_id 01234567-89ab-cdef-0123-456789abcdef does not",
    ),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
async def test_one_bad_row_and_nothing_is_written(node: Node, connection: Connection, kind: str) -> None:
    """First, middle and last. 2,500 rows are more than one of COPY's own buffers of 1,000."""
    await succeed(node, "insert", data=make_pattern(pattern_name="taken"))
    before = await rows(connection)
    changes, error_type, text = BAD_ROWS[kind]
    for size, index in ((1, 0), (7, 0), (7, 3), (7, 6), (2_500, 0), (2_500, 1_250), (2_500, 2_499)):
        patterns = [make_pattern(pattern_name=f"{(n * 7919) % 10_007}") for n in range(size)]
        patterns[index] = patterns[index] | changes
        asked = contract("batch_insert", patterns=patterns)
        result = await node.execute_effect(asked)
        assert_metadata(result, asked.correlation_id, "batch_insert", error_type)
        assert str(result.error).startswith(f"Batch insert failed at pattern {index}: {text}")
        assert result.metadata["failed_index"] == index
        assert await rows(connection) == before


async def test_a_twin_inside_the_batch(node: Node, connection: Connection) -> None:
    for index in (1, 50, 99):
        patterns = [make_pattern() for _ in range(100)]
        patterns[index] = patterns[0] | {"template_code": "other"}
        result = await fail(node, "batch_insert", patterns=patterns)
        name = patterns[0]["pattern_name"]
        assert result.error == (
            f"Batch insert failed at pattern {index}: Pattern already exists: {name} (function/python)"
        )
        assert (result.metadata["error_type"], result.metadata["failed_index"]) == ("unique_violation", index)
        assert await rows(connection) == []


async def test_a_row_that_only_the_database_can_refuse_is_named_too(node: Node, connection: Connection) -> None:
    """A rule that the database has and the code has not: a constraint somebody added."""
    await connection.execute("ALTER TABLE pattern_templates ADD CONSTRAINT no_bad CHECK (source <> 'bad')")
    patterns = [make_pattern(pattern_name=str(9 - n), source="bad" if n == 4 else "good") for n in range(10)]
    result = await fail(node, "batch_insert", patterns=patterns)
    assert str(result.error).startswith("Batch insert failed at pattern 4: no_bad: new row for relation")
    assert (result.metadata["error_type"], result.metadata["failed_index"]) == ("validation_error", 4)
    assert await rows(connection) == []


async def test_parents_of_a_batch_are_patterns_that_exist(node: Node, connection: Connection) -> None:
    """Ids are given by the database's side, so a batch cannot name one of its own patterns as parent."""
    inside = uuid4()
    result = await fail(
        node, "batch_insert", patterns=[make_pattern(id=inside), make_pattern(parent_pattern_id=inside)]
    )
    assert result.error == "Batch insert failed at pattern 0: id is set by the database and cannot be written"
    result = await fail(node, "batch_insert", patterns=[make_pattern(), make_pattern(parent_pattern_id=inside)])
    assert result.metadata["failed_index"] == 1
    outside = (await succeed(node, "batch_insert", patterns=[make_pattern()]))["pattern_ids"][0]
    await succeed(node, "batch_insert", patterns=[make_pattern(parent_pattern_id=outside) for _ in range(3)])
    assert [str(written["parent_pattern_id"]) for written in await rows(connection)].count(outside) == 3


async def test_several_unknown_parents_name_one_that_is_unknown(node: Node) -> None:
    known = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    first, second = uuid4(), uuid4()
    parents = [None, known, first, second, second, first]
    result = await fail(node, "batch_insert", patterns=[make_pattern(parent_pattern_id=parent) for parent in parents])
    failed = parents[result.metadata["failed_index"]]
    assert failed in (first, second)
    assert str(failed) in str(result.error)


async def test_a_batch_of_10_000(node: Node, connection: Connection) -> None:
    patterns = [make_pattern(pattern_name=f"{(n * 7919) % 10_007}") for n in range(10_000)]
    data = await succeed(node, "batch_insert", patterns=patterns)
    assert (data["count"], len(set(data["pattern_ids"]))) == (10_000, 10_000)
    written = {str(one["id"]): one["pattern_name"] for one in await rows(connection)}
    assert written == dict(zip(data["pattern_ids"], data["pattern_names"], strict=True))
    assert data["pattern_names"] == [pattern["pattern_name"] for pattern in patterns]


async def test_a_batch_of_10_001(node: Node, connection: Connection) -> None:
    result = await fail(node, "batch_insert", patterns=[make_pattern() for _ in range(10_001)])
    assert result.error == "patterns: at most 10,000 in one batch, got 10,001"
    assert result.metadata["error_type"] == "validation_error"
    assert await rows(connection) == []


async def test_overlapping_batches_in_opposite_orders_do_not_deadlock(node: Node, connection: Connection) -> None:
    """Ten batches at once over the same keys: one wins, the others are told which key is taken."""
    keys = [f"key {n:02}" for n in range(12)]
    orders = [keys, keys[::-1], keys[::2] + keys[1::2], keys[6:] + keys[:6], *map(list, permutations(keys[:3]))]
    for _ in range(5):
        await connection.execute("DELETE FROM pattern_templates")
        batches = [
            contract("batch_insert", patterns=[make_pattern(pattern_name=name) for name in order]) for order in orders
        ]
        results = await asyncio.gather(*map(node.execute_effect, batches))
        assert sum(result.success for result in results) == 1
        losers = [(batch, result) for batch, result in zip(batches, results, strict=True) if not result.success]
        for batch, result in losers:
            assert result.metadata["error_type"] == "unique_violation"
            name = batch.patterns[result.metadata["failed_index"]]["pattern_name"]
            assert f"Pattern already exists: {name} (" in str(result.error)
        [winner] = [result for result in results if result.success]
        assert [str(one["id"]) for one in await rows(connection)] == sorted(winner.data["pattern_ids"])


# all


async def test_unsupported_operation(node: Node) -> None:
    asked = contract("upsert")
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "upsert", "unsupported_operation")
    assert result.error == "Unsupported operation: upsert"


async def test_an_operation_is_one_explicit_transaction(
    node: Node, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operation of two statements that breaks after the first leaves nothing, and others see nothing meanwhile."""

    class Probe(Insert):
        async def apply(self, connection: AsyncConnection[Any]) -> dict[str, Any]:
            assert connection.info.transaction_status == TransactionStatus.INTRANS
            await super().apply(connection)
            assert await rows(beside) == []
            raise ZeroDivisionError("after the first statement")

    beside = connection
    monkeypatch.setitem(OPERATIONS, "insert", Probe)
    result = await fail(node, "insert", data=make_pattern())
    assert result.error == "unexpected ZeroDivisionError: after the first statement"
    assert await rows(connection) == []


async def test_every_operation_is_measured(node: Node) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    await succeed(node, "update", pattern_id=made["pattern_id"], data={"category": "x"})
    await succeed(node, "delete", pattern_id=made["pattern_id"])
    await succeed(node, "batch_insert", patterns=[make_pattern()])
    await succeed(node, "query")
    metrics = node.get_metrics()
    assert set(metrics) == {
        f"{operation}_duration_ms" for operation in ("insert", "update", "delete", "batch_insert", "query")
    }
    for metric in metrics.values():
        assert metric["value"] > 0
        assert metric == {
            "value": metric["value"],
            "unit": "ms",
            "count": 1,
            "total": metric["value"],
            "max": metric["value"],
        }
    await succeed(node, "query")
    assert node.get_metrics()["query_duration_ms"]["count"] == 2
    node.clear_metrics()
    assert node.get_metrics() == {}


async def test_a_failed_operation_is_measured_too(node: Node) -> None:
    await fail(node, "delete", pattern_id=uuid4())
    assert node.get_metrics()["delete_duration_ms"]["count"] == 1


async def test_records_have_all_columns_and_read_as_records(node: Node, connection: Connection) -> None:
    made = await succeed(node, "insert", data=make_pattern(**FULL))
    [record] = (await succeed(node, "query", query_params={"id": made["pattern_id"]}))["patterns"]
    assert tuple(record) == COLUMNS
    written = await row(connection, made["pattern_id"])
    assert ModelPatternRecord.model_validate(record).model_dump() == written
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", record["created_at"])
    assert abs(written["created_at"] - datetime.now(UTC)) < timedelta(days=1)


async def test_a_contract_read_from_json_does_the_same(node: Node, connection: Connection) -> None:
    asked = contract("insert", data=make_pattern(**FULL))
    read = type(asked).model_validate_json(asked.model_dump_json())
    result = await node.execute_effect(read)
    assert result.success
    written = await row(connection, result.data["pattern_id"])
    assert {name: written[name] for name in asked.data} == asked.data
