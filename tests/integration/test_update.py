"""Updates on a real database: which columns they write, and what a refused one leaves behind."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pattern import WRITABLE
from tests.fix_storage import (
    FULL,
    Connection,
    MakeNode,
    Node,
    all_rows,
    assert_metadata,
    contract,
    execute,
    fail,
    make_pattern,
    row_of,
    succeed,
)


async def test_update_writes_the_changed_columns_and_the_time(node: Node, connection: Connection) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    other = await succeed(node, "insert", data=make_pattern())
    before, bystander = await row_of(connection, made["pattern_id"]), await row_of(connection, other["pattern_id"])
    asked = contract("update", pattern_id=made["pattern_id"], data={"usage_count": 7, "category": "new"})
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "update")
    assert set(result.data) == {"pattern_id", "pattern_name", "updated_at", "fields_updated"}
    assert result.data["fields_updated"] == ["usage_count", "category"]
    assert (result.data["pattern_id"], result.data["pattern_name"]) == (made["pattern_id"], made["pattern_name"])
    after = await row_of(connection, made["pattern_id"])
    changed = {"usage_count": 7, "category": "new", "updated_at": after["updated_at"]}
    assert after == before | changed
    assert after["updated_at"] > before["updated_at"]
    assert datetime.fromisoformat(result.data["updated_at"]) == after["updated_at"]
    assert await row_of(connection, other["pattern_id"]) == bystander


async def test_every_column_can_be_updated_alone(node: Node, connection: Connection) -> None:
    parent = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    for column in WRITABLE:
        made = await succeed(node, "insert", data=make_pattern())
        before = await row_of(connection, made["pattern_id"])
        value = (FULL | {"parent_pattern_id": parent}).get(column, "changed")
        data = await succeed(node, "update", pattern_id=made["pattern_id"], data={column: value})
        after = await row_of(connection, made["pattern_id"])
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
    after = await row_of(connection, made["pattern_id"])
    assert [after[column] for column in columns] == [None] * len(columns)
    assert after["tags"] == FULL["tags"]


async def test_update_to_a_key_that_is_taken(node: Node, connection: Connection) -> None:
    await succeed(node, "insert", data=make_pattern(pattern_name="taken, (x)", pattern_type="t", language="l"))
    made = await succeed(node, "insert", data=make_pattern(pattern_type="t", language="l"))
    before = await all_rows(connection)
    asked = contract("update", pattern_id=made["pattern_id"], data={"pattern_name": "taken, (x)"})
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "update", "unique_violation")
    assert result.error == "Pattern already exists: taken, (x) (t/l)"
    assert await all_rows(connection) == before


async def test_update_to_an_unknown_parent(node: Node, connection: Connection) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    before, parent = await all_rows(connection), uuid4()
    result = await fail(node, "update", pattern_id=made["pattern_id"], data={"parent_pattern_id": parent})
    assert result.metadata["error_type"] == "foreign_key_violation"
    assert result.error == f"Invalid reference (foreign key violation): parent_pattern_id {parent} does not exist"
    assert await all_rows(connection) == before


@pytest.mark.parametrize("changes", [{"usage_count": -1}, {"updated_at": "2026-01-01T00:00:00Z"}, {"tag": ["x"]}])
async def test_a_bad_update_changes_nothing(node: Node, connection: Connection, changes: dict[str, Any]) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    before = await all_rows(connection)
    result = await fail(node, "update", pattern_id=made["pattern_id"], data={"category": "x"} | changes)
    assert result.metadata["error_type"] == "validation_error"
    assert next(iter(changes)) in str(result.error)
    assert await all_rows(connection) == before


async def test_updated_at_moves_with_every_update(node: Node) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    times = [made["created_at"]]
    for _ in range(3):
        data = await succeed(node, "update", pattern_id=made["pattern_id"], data={"category": "the same"})
        times.append(data["updated_at"])
    moments = [datetime.fromisoformat(time) for time in times]
    assert moments == sorted(set(moments))


async def test_an_update_does_not_wait_for_a_transaction_that_refers_to_the_pattern(
    node_with: MakeNode, group: GroupConnection, connection: Connection
) -> None:
    async with node_with(lock_timeout="500") as node:
        parent = await succeed(node, "insert", data=make_pattern())
        changes = {"pattern_id": parent["pattern_id"], "data": {"category": "new"}}
        # As an import does for minutes.
        async with connection.transaction():
            child = make_pattern(parent_pattern_id=parent["pattern_id"])
            columns = ("pattern_name", "pattern_type", "language", "template_code", "parent_pattern_id")
            await execute(
                connection,
                f"INSERT INTO pattern_templates ({', '.join(columns)}) VALUES (%s, %s, %s, %s, %s)",
                *(child[column] for column in columns),
            )
            await succeed(node, "update", **changes)
            [updated] = group.execute([contract("update", **changes)])
            assert updated is not None
            assert updated.success
            expected = datetime.fromisoformat(updated.parse().data["updated_at"])
            await succeed(node, "update", **changes, expect=expected)
