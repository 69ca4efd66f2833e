"""Inserts on a real database: what they return, what they write, and what a refused one leaves behind."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from pattern_storage.storage.pattern import COLUMNS
from tests.fix_storage import (
    FULL,
    Connection,
    Node,
    all_rows,
    assert_metadata,
    contract,
    database_time,
    make_pattern,
    row_of,
    succeed,
)


async def test_insert_returns_and_writes(node: Node, connection: Connection) -> None:
    parent = (await succeed(node, "insert", data=make_pattern()))["pattern_id"]
    asked = contract("insert", data=make_pattern(**FULL, parent_pattern_id=parent))
    before = await database_time(connection)
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "insert")
    assert set(result.data) == {"pattern_id", "pattern_name", "created_at"}
    assert result.data["pattern_name"] == asked.data["pattern_name"]
    written = await row_of(connection, result.data["pattern_id"])
    assert {name: written[name] for name in asked.data} == asked.data | {"parent_pattern_id": UUID(parent)}
    assert datetime.fromisoformat(result.data["created_at"]) == written["created_at"] == written["updated_at"]
    assert before <= written["created_at"] <= await database_time(connection)


async def test_insert_of_the_least_takes_the_defaults_of_the_table(node: Node, connection: Connection) -> None:
    data = make_pattern()
    ours = await row_of(connection, (await succeed(node, "insert", data=data))["pattern_id"])
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
    before = await all_rows(connection)
    again = await node.execute_effect(asked)
    assert_metadata(again, asked.correlation_id, "insert", "unique_violation")
    assert again.error == "Pattern already exists: a, b) (c (t, u/l)"
    assert await all_rows(connection) == before
    assert len(before) == 1


async def test_a_key_differs_if_one_part_does(node: Node, connection: Connection) -> None:
    for changes in ({}, {"pattern_name": "X"}, {"pattern_type": "y"}, {"language": "z"}):
        await succeed(node, "insert", data=make_pattern(pattern_name="x") | changes)
    assert len(await all_rows(connection)) == 4


async def test_a_parent_that_does_not_exist(node: Node, connection: Connection) -> None:
    parent = uuid4()
    asked = contract("insert", data=make_pattern(parent_pattern_id=parent))
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, "insert", "foreign_key_violation")
    assert result.error == f"Invalid reference (foreign key violation): parent_pattern_id {parent} does not exist"
    assert await all_rows(connection) == []


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
    assert await all_rows(connection) == []


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
    assert len(await all_rows(connection)) == 1
