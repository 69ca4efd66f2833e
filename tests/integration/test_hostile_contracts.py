"""Whatever a contract holds: a result comes back, and a failed operation has changed nothing."""

import json
import math
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pattern_storage.storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.operations import OPERATIONS
from pattern_storage.storage.operations.query_params import QueryParams
from pattern_storage.storage.pattern import COLUMNS
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

#: Two patterns that exist in every example until one deletes them: a parent and its child.
PARENT, CHILD = UUID(int=1), UUID(int=2)


class Unprintable:
    """An object that fails when anybody looks at it."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def nested(kind: type, depth: int) -> Any:
    """Lists in lists, or dicts in dicts."""
    value: Any = "bottom"
    for _ in range(depth):
        value = {"k": value} if kind is dict else kind([value])
    return value


SQL = [
    "'; DROP TABLE pattern_templates; --",
    '" OR 1=1 --',
    "1); DELETE FROM pattern_templates; --",
    "%(id)s",
    "%s",
    "%",
    "{columns}",
    "$1",
    "\\",
    "\\.",
    "\\N",
    "NULL",
    "{}",
    "pg_sleep(10)",
]
TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(categories=("Cs", "Cc", "Co", "Cn")), min_size=1, max_size=5),
    st.sampled_from([*SQL, "", " ", "\x00", "a\x00b", "\ud800", "\U0010ffff", "\u202e", "x" * 300, "x" * 1_100_000]),
    st.sampled_from([str(PARENT), str(CHILD), str(UUID(int=3)), "not-a-uuid", "{" + str(PARENT) + "}"]),
)
SCALARS = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 2**31, -(2**31), 2**63, 10**400]),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.0000000000000002]),
    st.sampled_from([PARENT, CHILD, UUID(int=3)]),
    st.sampled_from([b"bytes\xff", datetime(2026, 1, 1, tzinfo=UTC), datetime.min, 1j, object(), int]),
)
#: By name, because Hypothesis prints what it draws from, and some of these cannot be printed.
MONSTERS: dict[str, Any] = {
    f"{kind.__name__} {depth} deep": nested(kind, depth)
    for kind in (list, dict, tuple)
    for depth in (3, 99, 101, 300, 3_000)
}
MONSTERS |= {
    "huge": 10**5000,
    "unprintable": Unprintable(),
    "keys": {1: 2, None: 3, (1, 2): 4},
    "NUL": {"": {"\x00": 1}},
    "surrogate": {"k": "\ud800"},
    "NaN": {"k": math.nan},
    "object": {"k": object()},
    "set": {1, 2},
}
NESTED = st.sampled_from(sorted(MONSTERS)).map(lambda name: MONSTERS[name])
VALUES = st.one_of(
    SCALARS,
    NESTED,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    ),
)
VALID_PATTERN = st.fixed_dictionaries(
    {
        "pattern_name": st.sampled_from(["parent", "child", "a", "b"]) | st.text(min_size=1, max_size=10),
        "pattern_type": st.just("function"),
        "language": st.just("python"),
        "template_code": st.just("pass"),
    }
)
COLUMN_NAMES = st.sampled_from(COLUMNS) | TEXTS.filter(lambda text: len(text) < 1_000)


def mutated(valid: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A valid object with up to two columns of any name and value on top."""
    return st.builds(lambda one, other: one | other, valid, st.dictionaries(COLUMN_NAMES, VALUES, max_size=2))


PATTERN = mutated(VALID_PATTERN)
PARAMS = st.dictionaries(
    st.sampled_from(list(QueryParams.model_fields)) | TEXTS.filter(lambda text: len(text) < 1_000),
    VALUES | st.sampled_from(["created_at", "pattern_name", 1, 10, "2026-01-01T00:00:00Z", ["x"], {"k": 1}]),
    max_size=3,
)
IDS = st.sampled_from([PARENT, CHILD, UUID(int=3), str(PARENT), "nonsense", 7, None])

PLAUSIBLE = st.one_of(
    st.fixed_dictionaries({"operation": st.just("insert"), "data": PATTERN}),
    st.fixed_dictionaries({"operation": st.just("batch_insert"), "patterns": st.lists(PATTERN, max_size=4)}),
    st.fixed_dictionaries(
        {
            "operation": st.just("update"),
            "pattern_id": IDS,
            "data": st.dictionaries(COLUMN_NAMES, VALUES, min_size=1, max_size=2),
        }
    ),
    st.fixed_dictionaries({"operation": st.just("delete"), "pattern_id": IDS}),
    st.fixed_dictionaries({"operation": st.just("query"), "query_params": PARAMS}),
)
#: Any value in any field, required ones missing too.
NONSENSE = st.fixed_dictionaries(
    {},
    optional={
        "operation": st.sampled_from(list(OPERATIONS)) | VALUES,
        "pattern_id": IDS | VALUES,
        "data": PATTERN | VALUES,
        "patterns": st.lists(PATTERN | VALUES, max_size=2) | VALUES,
        "query_params": PARAMS | VALUES,
        "correlation_id": VALUES,
        "name": VALUES,
        "node_type": VALUES,
    },
)


async def seed(connection: Connection) -> None:
    """Put the parent and its child there, if an example before took them away or changed their names."""
    for pattern_id, name, parent in ((PARENT, "parent", None), (CHILD, "child", PARENT)):
        await connection.execute(
            "INSERT INTO pattern_templates (id, pattern_name, pattern_type, language, template_code, parent_pattern_id)"
            " VALUES (%s, %s, 'function', 'python', 'x', %s) ON CONFLICT DO NOTHING",
            [pattern_id, name, parent],
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


async def check(node: Node, connection: Connection, asked: Any) -> ModelResult:
    """Execute a contract and make sure of everything that holds for any contract at all."""
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


@steady
@given(text=TEXTS)
async def test_a_text_is_stored_as_it_is_or_refused(node: Node, connection: Connection, text: str) -> None:
    """No text is cut, escaped or read as SQL on its way, in one row or in a batch."""
    await connection.execute("DELETE FROM pattern_templates")
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
