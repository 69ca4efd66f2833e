"""What all operations have in common: one transaction each, metrics, and metadata."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from pattern_storage.storage import ModelPatternRecord
from pattern_storage.storage.operations import OPERATIONS
from pattern_storage.storage.operations.insert import Insert
from pattern_storage.storage.pattern import COLUMNS
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


@pytest.mark.parametrize("operation", ["update", "delete"])
async def test_a_pattern_that_is_not_there(node: Node, operation: str) -> None:
    asked = contract(operation, pattern_id=uuid4(), **({"data": {"usage_count": 1}} if operation == "update" else {}))
    result = await node.execute_effect(asked)
    assert_metadata(result, asked.correlation_id, operation, "validation_error")
    assert result.error == f"Pattern not found: {asked.pattern_id}"


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
            assert await all_rows(beside) == []
            raise ZeroDivisionError("after the first statement")

    beside = connection
    monkeypatch.setitem(OPERATIONS, "insert", Probe)
    result = await fail(node, "insert", data=make_pattern())
    assert result.error == "unexpected ZeroDivisionError: after the first statement"
    assert await all_rows(connection) == []


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
    took = (await fail(node, "delete", pattern_id=uuid4())).metadata["duration_ms"]
    assert took == round(took, 3), "no more than a clock tells"
    assert node.get_metrics()["delete_duration_ms"]["count"] == 1


async def test_records_have_all_columns_and_read_as_records(node: Node, connection: Connection) -> None:
    made = await succeed(node, "insert", data=make_pattern(**FULL))
    [record] = (await succeed(node, "query", query_params={"id": made["pattern_id"]}))["patterns"]
    assert tuple(record) == COLUMNS
    written = await row_of(connection, made["pattern_id"])
    assert ModelPatternRecord.model_validate(record).model_dump() == written
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", record["created_at"])
    assert abs(written["created_at"] - datetime.now(UTC)) < timedelta(days=1)


async def test_a_contract_read_from_json_does_the_same(node: Node, connection: Connection) -> None:
    asked = contract("insert", data=make_pattern(**FULL))
    read = type(asked).model_validate_json(asked.model_dump_json())
    result = await node.execute_effect(read)
    assert result.success
    written = await row_of(connection, result.data["pattern_id"])
    assert {name: written[name] for name in asked.data} == asked.data
