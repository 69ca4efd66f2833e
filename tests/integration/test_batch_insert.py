"""Batches on a real database: all rows in input order, or none and the row that was refused."""

import asyncio
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.fix_storage import (
    FULL,
    Connection,
    Node,
    all_rows,
    assert_metadata,
    contract,
    fail,
    make_pattern,
    row_of,
    succeed,
)


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
    assert len(await all_rows(connection)) == 11
    for pattern_id, pattern in zip(result.data["pattern_ids"], patterns, strict=True):
        written = await row_of(connection, pattern_id)
        expected = pattern | ({"parent_pattern_id": UUID(parent)} if pattern is patterns[3] else {})
        assert {name: written[name] for name in pattern} == expected


async def test_a_batch_and_an_insert_write_the_same(node: Node, connection: Connection) -> None:
    data = make_pattern(**FULL)
    one = (await succeed(node, "insert", data=data | {"pattern_name": "one"}))["pattern_id"]
    [two] = (await succeed(node, "batch_insert", patterns=[data | {"pattern_name": "two"}]))["pattern_ids"]
    own = ("id", "pattern_name", "created_at", "updated_at")
    single, batched = [
        {name: value for name, value in (await row_of(connection, pattern_id)).items() if name not in own}
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
    before = await all_rows(connection)
    changes, error_type, text = BAD_ROWS[kind]
    for size, index in ((1, 0), (7, 0), (7, 3), (7, 6), (2_500, 0), (2_500, 1_250), (2_500, 2_499)):
        patterns = [make_pattern(pattern_name=f"{(n * 7919) % 10_007}") for n in range(size)]
        patterns[index] = patterns[index] | changes
        asked = contract("batch_insert", patterns=patterns)
        result = await node.execute_effect(asked)
        assert_metadata(result, asked.correlation_id, "batch_insert", error_type)
        assert str(result.error).startswith(f"Batch insert failed at pattern {index}: {text}")
        assert result.metadata["failed_index"] == index
        assert await all_rows(connection) == before


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
        assert await all_rows(connection) == []


async def test_a_row_that_only_the_database_can_refuse_is_named_too(node: Node, connection: Connection) -> None:
    """A rule that the database has and the code has not: a constraint somebody added."""
    await connection.execute("ALTER TABLE pattern_templates ADD CONSTRAINT no_bad CHECK (source <> 'bad')")
    patterns = [make_pattern(pattern_name=str(9 - n), source="bad" if n == 4 else "good") for n in range(10)]
    result = await fail(node, "batch_insert", patterns=patterns)
    assert str(result.error).startswith("Batch insert failed at pattern 4: no_bad: new row for relation")
    assert (result.metadata["error_type"], result.metadata["failed_index"]) == ("validation_error", 4)
    assert await all_rows(connection) == []


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
    assert [str(written["parent_pattern_id"]) for written in await all_rows(connection)].count(outside) == 3


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
    written = {str(one["id"]): one["pattern_name"] for one in await all_rows(connection)}
    assert written == dict(zip(data["pattern_ids"], data["pattern_names"], strict=True))
    assert data["pattern_names"] == [pattern["pattern_name"] for pattern in patterns]


async def test_a_batch_of_10_001(node: Node, connection: Connection) -> None:
    result = await fail(node, "batch_insert", patterns=[make_pattern() for _ in range(10_001)])
    assert result.error == "patterns: at most 10,000 in one batch, got 10,001"
    assert result.metadata["error_type"] == "validation_error"
    assert await all_rows(connection) == []


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
        assert [str(one["id"]) for one in await all_rows(connection)] == sorted(winner.data["pattern_ids"])
