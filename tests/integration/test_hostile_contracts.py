"""Whatever a contract holds: a result comes back, and a failed operation has changed nothing."""

import json
from typing import Any
from weakref import WeakKeyDictionary

from hypothesis import HealthCheck, given, settings

from pattern_storage.storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.errors import ContractInvalid
from tests.fix_hostile import CHILD, NONSENSE, PARENT, PLAUSIBLE, TEXTS, VALUES
from tests.fix_storage import Connection, Node, succeed

#: What a caller can be told about a contract; anything else would be a fault of ours or of the database.
EXPECTED = {"validation_error", "unique_violation", "foreign_key_violation", "unsupported_operation"}

steady = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    # The database lives as long as the test: each example looks at what it changes itself.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


async def seed(connection: Connection) -> None:
    """Put the parent and its child there, if an example before took them away or changed their names."""
    await connection.execute(
        "INSERT INTO pattern_templates (id, pattern_name, pattern_type, language, template_code, parent_pattern_id)"
        " VALUES (%(parent)s, 'parent', 'function', 'python', 'x', NULL),"
        " (%(child)s, 'child', 'function', 'python', 'x', %(parent)s) ON CONFLICT DO NOTHING",
        {"parent": PARENT, "child": CHILD},
    )


async def snapshot(connection: Connection) -> tuple[int, str]:
    """The number of rows and a checksum over every column of each."""
    cursor = await connection.execute(
        "SELECT count(*) AS count, coalesce(md5(string_agg(t::text, chr(10) ORDER BY id)), '') AS sum"
        " FROM pattern_templates AS t"
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["count"], row["sum"]


#: What each connection saw after an example that changed nothing. Most are refused, and the next one begins there.
unchanged: WeakKeyDictionary[Connection, tuple[int, str]] = WeakKeyDictionary()


async def check(node: Node, connection: Connection, asked: Any) -> ModelResult:
    """Execute a contract and make sure of everything that holds for any contract at all."""
    before = unchanged.pop(connection, None)
    if before is None:
        await seed(connection)
        before = await snapshot(connection)
    result = await node.execute_effect(asked)
    after = await snapshot(connection)

    assert isinstance(result, ModelResult)
    assert set(result.metadata) >= {"correlation_id", "operation", "duration_ms"}
    assert isinstance(result.metadata["correlation_id"], str)
    assert isinstance(result.metadata["operation"], str)
    assert result.metadata["duration_ms"] > 0
    json.dumps(result.to_dict(), allow_nan=False).encode()
    assert ModelResult.model_validate_json(result.model_dump_json()) == result
    if result.success:
        assert result.error is None
        assert "error_type" not in result.metadata
        assert (before == after) == (result.metadata["operation"] == "query")
    else:
        assert result.error
        assert "Traceback" not in result.error
        assert len(result.error) < 2_000 or result.metadata["error_type"] == "unsupported_operation"
        assert result.metadata["error_type"] in EXPECTED, result.error
        assert after == before
    if after == before:
        unchanged[connection] = after
    return result


@steady
@given(fields=PLAUSIBLE)
async def test_a_contract_with_hostile_values(node: Node, connection: Connection, fields: dict[str, Any]) -> None:
    try:
        asked = ModelContractPatternStorage(**fields)
    except ContractInvalid:
        asked = ModelContractPatternStorage.model_construct(**fields)
    else:
        assert ModelContractPatternStorage.model_validate_json(asked.model_dump_json()).operation == asked.operation
    result = await check(node, connection, asked)
    assert result.metadata["correlation_id"] == str(asked.correlation_id)
    assert result.metadata["operation"] == fields["operation"]


@steady
@given(fields=PLAUSIBLE)
async def test_a_contract_that_no_validation_saw(node: Node, connection: Connection, fields: dict[str, Any]) -> None:
    await check(node, connection, ModelContractPatternStorage.model_construct(**fields))


@steady
@given(fields=NONSENSE)
async def test_a_contract_of_nonsense(node: Node, connection: Connection, fields: dict[str, Any]) -> None:
    await check(node, connection, ModelContractPatternStorage.model_construct(**fields))


@steady
@given(anything=VALUES)
async def test_no_contract_at_all(node: Node, connection: Connection, anything: Any) -> None:
    assert not (await check(node, connection, anything)).success


@settings(steady, max_examples=100)
@given(text=TEXTS)
async def test_a_text_is_stored_as_it_is_or_refused(node: Node, connection: Connection, text: str) -> None:
    """No text is cut, escaped or read as SQL on its way, in one row or in a batch."""
    await connection.execute("DELETE FROM pattern_templates")
    unchanged.pop(connection, None)
    fields = {
        "pattern_name": (text or "x")[:255],
        "pattern_type": "t",
        "language": "l",
        "template_code": text,
        "category": text,
        "tags": [text[:100]],
        "context": {text[:100]: text[:1000]},
    }
    for operation, given_fields in (
        ("insert", {"data": fields}),
        ("batch_insert", {"patterns": [fields | {"pattern_type": "u"}]}),
    ):
        asked = ModelContractPatternStorage.model_construct(operation=operation, **given_fields)
        result = await check(node, connection, asked)
        storable = (
            "\x00" not in text and len(text) <= 1_048_576 and not any("\ud800" <= char <= "\udfff" for char in text)
        )
        assert result.success is storable, result.error
        if storable:
            pattern_id = result.data.get("pattern_id") or result.data["pattern_ids"][0]
            [record] = (await succeed(node, "query", query_params={"id": pattern_id}))["patterns"]
            assert {name: record[name] for name in fields} == fields | {"pattern_type": record["pattern_type"]}


async def test_the_checks_above_would_see_a_change(connection: Connection) -> None:
    await seed(connection)
    before = await snapshot(connection)
    await connection.execute("UPDATE pattern_templates SET usage_count = usage_count + 1 WHERE id = %s", [CHILD])
    assert (await snapshot(connection))[0] == before[0]
    assert await snapshot(connection) != before
