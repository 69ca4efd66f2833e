"""Deletes on a real database: one row goes, and a parent stays while it has children."""

from tests.fix_storage import Connection, Node, all_rows, assert_metadata, contract, make_pattern, succeed


async def test_delete_takes_one_row_away(node: Node, connection: Connection) -> None:
    made = await succeed(node, "insert", data=make_pattern())
    other = await succeed(node, "insert", data=make_pattern())
    asked = contract("delete", pattern_id=made["pattern_id"])
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "delete")
    assert result.data == {"pattern_id": made["pattern_id"], "pattern_name": made["pattern_name"], "deleted": True}
    assert [str(left["id"]) for left in await all_rows(connection)] == [other["pattern_id"]]
    again = await node.execute_effect(asked)
    assert_metadata(again, asked.correlation_id, "delete", "validation_error")
    assert again.error == f"Pattern not found: {made['pattern_id']}"


async def test_a_parent_stays_while_it_has_children(node: Node, connection: Connection) -> None:
    parent = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    child = (await succeed(node, "insert", data=make_pattern(parent_pattern_id=parent)))["pattern_id"]
    before = await all_rows(connection)
    asked = contract("delete", pattern_id=parent)
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "delete", "foreign_key_violation")
    assert result.error == (
        f"Invalid reference (foreign key violation): pattern {parent} is the parent of other patterns"
    )
    assert await all_rows(connection) == before
    await succeed(node, "delete", pattern_id=child)
    await succeed(node, "delete", pattern_id=parent)
    assert await all_rows(connection) == []


async def test_a_pattern_may_be_its_own_parent_and_still_go(node: Node, connection: Connection) -> None:
    made = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    await succeed(node, "update", pattern_id=made, data={"parent_pattern_id": made})
    await succeed(node, "delete", pattern_id=made)
    assert await all_rows(connection) == []
