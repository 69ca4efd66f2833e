"""Every rule for a value, at and beyond its limit, and the sentence that refuses what breaks it."""

import base64
import json
import math
from typing import Any
from uuid import UUID

import pytest
from pydantic_core import to_json

from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.errors import BatchInsertFailed, ContractInvalid, UniqueViolation, UnsupportedOperation
from pattern_storage.storage.operations import check
from pattern_storage.storage.operations.batch_insert import MAX_PATTERNS, BatchInsert
from pattern_storage.storage.operations.delete import Delete
from pattern_storage.storage.operations.insert import Insert
from pattern_storage.storage.operations.paging import Cursor
from pattern_storage.storage.operations.query import Query
from pattern_storage.storage.operations.update import Update
from pattern_storage.storage.pattern import COLUMNS, MAX_CONTEXT_BYTES, MAX_TEXT_BYTES, WRITABLE
from pattern_storage.storage.quick_check import checked_json
from tests.fix_storage import contract, make_pattern

ID = UUID("01234567-89ab-cdef-0123-456789abcdef")
MEBIBYTE = "x" * MAX_TEXT_BYTES


def nested(levels: int) -> dict[str, Any]:
    """An object of that many levels."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"k": value}
    return value


def context_of(size: int) -> dict[str, Any]:
    """An object that takes that many bytes of JSON."""
    return {"k": "x" * (size - len(json.dumps({"k": ""})))}


def refusal(**changes: Any) -> str:
    """Return what an insert, an update and a batch all say to this value."""
    assert checked_json(make_pattern(**changes)) is None
    with pytest.raises(ContractInvalid) as insert:
        check(contract("insert", data=make_pattern(**changes)))
    with pytest.raises(ContractInvalid) as update:
        check(contract("update", pattern_id=ID, data=changes))
    with pytest.raises(BatchInsertFailed) as batch:
        check(contract("batch_insert", patterns=[make_pattern(), make_pattern(**changes)]))
    assert str(insert.value) == str(update.value)
    assert str(batch.value) == f"Batch insert failed at pattern 1: {insert.value}"
    assert (batch.value.error_type, batch.value.fields) == ("validation_error", {"failed_index": 1})
    return str(insert.value)


ACCEPTED: list[tuple[str, Any]] = [
    *(("pattern_name", value) for value in ("x", "x" * 255, "\U0001f600" * 255, " ", "';--", "a\nb")),
    *(("pattern_type", value) for value in ("x", "ä" * 100)),
    *(("language", value) for value in ("C", "ß" * 50)),
    *((name, "") for name in ("template_code", "category", "description", "example_usage", "source", "created_by")),
    *((name, MEBIBYTE) for name in ("template_code", "category", "description", "example_usage", "source")),
    *((name, None) for name in ("category", "description", "example_usage", "source", "parent_pattern_id")),
    *((name, None) for name in ("complexity_score", "maintainability_score", "performance_score")),
    *((name, value) for name in ("confidence_score", "success_rate") for value in (0, 1, 0.0, 1.0, -0.0, 5e-324)),
    *((name, value) for name in ("maintainability_score", "performance_score") for value in (0, 0.5, 1)),
    *(("usage_count", value) for value in (0, 1, 2**31 - 1)),
    *(("complexity_score", value) for value in (1, 10)),
    *(("is_deprecated", value) for value in (True, False)),
    *(("parent_pattern_id", value) for value in (ID, str(ID), ID.hex, f"urn:uuid:{ID}")),
    ("tags", []),
    *(("tags", value) for value in (["", "x" * 100], ["a"] * 64, ["a,b", "{", '"', "NULL"])),
    *(("context", value) for value in (nested(1), nested(100), context_of(MAX_CONTEXT_BYTES))),
    ("context", {"": None, "a": [[]]}),
    ("context", {"text": r"\u0000 written out is no NUL"}),
]


@pytest.mark.parametrize(("column", "value"), ACCEPTED, ids=[f"{name}{n}" for n, (name, _) in enumerate(ACCEPTED)])
def test_the_limits_themselves_are_allowed(column: str, value: Any) -> None:
    pattern = make_pattern(**{column: value})
    insert = check(contract("insert", data=pattern))
    assert isinstance(insert, Insert)
    # Only what is large or deep, or has a NUL character written out, is looked at twice.
    assert checked_json(pattern) == (None if "\\u0000" in str(value) or len(str(value)) > 1_000 else to_json(pattern))
    expected = ID if column == "parent_pattern_id" and value else value
    assert getattr(insert.pattern, column) == expected
    update = check(contract("update", pattern_id=ID, data={column: value}))
    assert isinstance(update, Update)
    assert update.changes == {column: expected}


NUL = "must not contain a NUL character, PostgreSQL cannot store it"
REFUSED = [
    ("pattern_name", "", "pattern_name should have at least 1 character, got ''"),
    ("pattern_name", "x" * 256, "pattern_name should have at most 255 characters, got a text of 256 characters"),
    ("pattern_name", "a\x00b", f"pattern_name: {NUL}, got 'a\\x00b'"),
    ("pattern_name", 7, "pattern_name should be a valid string, got 7"),
    ("pattern_type", "", "pattern_type should have at least 1 character, got ''"),
    ("pattern_type", "x" * 101, "pattern_type should have at most 100 characters, got a text of 101 characters"),
    ("language", "x" * 51, f"language should have at most 50 characters, got {'x' * 51!r}"),
    ("language", "\x00", f"language: {NUL}, got '\\x00'"),
    ("template_code", "\x00", f"template_code: {NUL}, got a text of 1 characters"),
    (
        "template_code",
        MEBIBYTE + "x",
        "template_code: must be at most 1,048,576 bytes of UTF-8 and is 1,048,577, got a text of 1048577 characters",
    ),
    ("category", True, "category should be a valid string, got True"),
    ("created_by", None, "created_by should be a valid string, got None"),
    ("confidence_score", 1.0000000000000002, "confidence_score should be less than or equal to 1, got "),
    ("confidence_score", -5e-324, "confidence_score should be greater than or equal to 0, got -5e-324"),
    ("confidence_score", "0.5", "confidence_score should be a valid number, got '0.5'"),
    ("confidence_score", True, "confidence_score should be a valid number, got True"),
    ("confidence_score", None, "confidence_score should be a valid number, got None"),
    ("confidence_score", math.nan, "confidence_score should be "),
    ("success_rate", math.inf, "success_rate should be less than or equal to 1, got inf"),
    ("success_rate", math.nan, "success_rate should be "),
    ("maintainability_score", 2, "maintainability_score should be less than or equal to 1, got 2"),
    ("performance_score", -1, "performance_score should be greater than or equal to 0, got -1"),
    ("usage_count", -1, "usage_count should be greater than or equal to 0, got -1"),
    ("usage_count", 2**31, "usage_count should be less than or equal to 2147483647, got 2147483648"),
    ("usage_count", 10**1000, "usage_count should be less than or equal to 2147483647, got 1000"),
    ("usage_count", 1.0, "usage_count should be a valid integer, got 1.0"),
    ("usage_count", "1", "usage_count should be a valid integer, got '1'"),
    ("complexity_score", 0, "complexity_score should be greater than or equal to 1, got 0"),
    ("complexity_score", 11, "complexity_score should be less than or equal to 10, got 11"),
    ("is_deprecated", 1, "is_deprecated should be a valid boolean, got 1"),
    ("is_deprecated", "true", "is_deprecated should be a valid boolean, got 'true'"),
    ("parent_pattern_id", "no", "parent_pattern_id should be a valid UUID, "),
    ("parent_pattern_id", 5, "parent_pattern_id: UUID input should be a string, bytes or UUID object, got 5"),
    ("tags", "a", "tags should be a valid list, got 'a'"),
    ("tags", ["a"] * 65, "tags: List should have at most 64 items after validation, not 65, got list of 65"),
    ("tags", ["a", "x" * 101], "tags.1 should have at most 100 characters, got a text of 101 characters"),
    ("tags", ["a", None], "tags.1 should be a valid string, got None"),
    ("tags", ["\x00"], f"tags.0: {NUL}, got '\\x00'"),
    ("context", [], "context should be a valid dictionary, got list of 0"),
    ("context", None, "context should be a valid dictionary, got None"),
    ("context", {"k": ["\x00"]}, f"context: {NUL}, got dict of 1"),
    ("context", {"\x00": 1}, f"context: {NUL}, got dict of 1"),
    ("context", {"k": math.nan}, "context: must be a JSON object: Out of range float values are not JSON compliant"),
    ("context", {"k": {"k": [math.inf]}}, "context: must be a JSON object: Out of range float values"),
    ("context", nested(101), "context: must be nested at most 100 levels deep, got dict of 1"),
    ("context", context_of(MAX_CONTEXT_BYTES + 1), "context: must be at most 262,144 bytes of JSON and is 262,145"),
    ("id", str(ID), "id is set by the database and cannot be written"),
    ("created_at", "2026-01-31T12:00:00Z", "created_at is set by the database and cannot be written"),
    ("updated_at", "2026-01-31T12:00:00Z", "updated_at is set by the database and cannot be written"),
    ("confidence", 1, "unknown column 'confidence'; did you mean 'confidence_score'?"),
    ("q", 1, "unknown column 'q'; known are pattern_name, pattern_type, language, category, "),
    ("id = id; DROP TABLE pattern_templates --", 1, "unknown column 'id = id; DROP TABLE pattern_templates --'"),
    ("x" * 100, 1, f"unknown column '{'x' * 59}…'; known are"),
]


@pytest.mark.parametrize(
    ("column", "value", "text"), REFUSED, ids=[f"{name[:20]}{n}" for n, (name, _, _) in enumerate(REFUSED)]
)
def test_beyond_the_limits_the_field_and_the_rule_are_named(column: str, value: Any, text: str) -> None:
    assert refusal(**{column: value}).startswith(text)


def test_a_surrogate_is_refused_wherever_it_hides() -> None:
    # Contracts cannot be built with one, so this one is changed afterwards.
    for changes in ({"pattern_name": "\ud800"}, {"tags": ["\ud800"]}, {"context": {"\ud800": "\udfff"}}):
        changed = contract("insert", data=make_pattern())
        changed.data |= changes
        with pytest.raises(ContractInvalid) as error:
            check(changed)
        assert str(error.value).startswith(next(iter(changes)))


def test_a_required_column_cannot_be_updated_to_nothing() -> None:
    for column in ("pattern_name", "pattern_type", "language", "template_code"):
        with pytest.raises(ContractInvalid, match=f"^{column} should be a valid string, got None$"):
            check(contract("update", pattern_id=ID, data={column: None}))


def test_three_findings_are_told_and_the_others_counted() -> None:
    data = make_pattern(usage_count=-1, tags=0, context=0, complexity_score=0, success_rate=9)
    with pytest.raises(ContractInvalid) as error:
        check(contract("insert", data=data))
    assert str(error.value).count(";") == 2
    assert str(error.value).endswith("(and 2 more)")


def test_long_and_secret_values_are_not_repeated() -> None:
    for changes in (
        {"template_code": "hunter2\x00"},
        {"example_usage": "hunter2\x00"},
        {"context": {"x": "hunter2\x00"}},
    ):
        assert "hunter2" not in refusal(**changes)
    assert len(refusal(category=list(range(10_000)))) < 200
    changed = contract("insert", data=make_pattern())
    changed.data["usage_count"] = 10**5000
    with pytest.raises(ContractInvalid) as error:
        check(changed)
    assert str(error.value).endswith(", got a very large int")


def test_defaults_are_those_of_the_table() -> None:
    insert = check(contract("insert", data=make_pattern()))
    assert isinstance(insert, Insert)
    given = {"pattern_name", "pattern_type", "language", "template_code"}
    assert insert.pattern.model_dump(exclude=given) == {
        "category": None,
        "description": None,
        "example_usage": None,
        "source": None,
        "confidence_score": 0.5,
        "usage_count": 0,
        "success_rate": 0.5,
        "complexity_score": None,
        "maintainability_score": None,
        "performance_score": None,
        "parent_pattern_id": None,
        "is_deprecated": False,
        "created_by": "system",
        "tags": [],
        "context": {},
    }
    assert (len(WRITABLE), len(COLUMNS)) == (19, 22)


def test_defaults_are_not_shared() -> None:
    first, second = (check(contract("insert", data=make_pattern())) for _ in range(2))
    assert isinstance(first, Insert)
    assert isinstance(second, Insert)
    first.pattern.tags.append("x")
    first.pattern.context["x"] = 1
    assert (second.pattern.tags, second.pattern.context) == ([], {})


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("insert", {"data": make_pattern(), "pattern_id": ID}),
        ("insert", {"data": make_pattern(), "patterns": [make_pattern()]}),
        ("insert", {"data": make_pattern(), "query_params": {"limit": 1}}),
        ("update", {"pattern_id": ID, "data": {"category": "x"}, "patterns": [{}]}),
        ("update", {"pattern_id": ID, "data": {"category": "x"}, "query_params": {"limit": 1}}),
        ("delete", {"pattern_id": ID, "data": {"category": "x"}}),
        ("delete", {"pattern_id": ID, "patterns": [{}]}),
        ("delete", {"pattern_id": ID, "query_params": {"limit": 1}}),
        ("batch_insert", {"patterns": [make_pattern()], "data": {"x": 1}}),
        ("batch_insert", {"patterns": [make_pattern()], "pattern_id": ID}),
        ("batch_insert", {"patterns": [make_pattern()], "query_params": {"limit": 1}}),
        ("query", {"data": {"x": 1}}),
        ("query", {"pattern_id": ID}),
        ("query", {"patterns": [{}]}),
    ],
)
def test_a_field_that_the_operation_would_ignore_is_refused(operation: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ContractInvalid) as error:
        check(contract(operation, **fields))
    text = f" has no meaning for the operation {operation!r}; leave it out"
    assert str(error.value) in {f"{field}{text}" for field in fields}


@pytest.mark.parametrize("name", ["", "INSERT", "insert ", "drop", "check", "__class__", "x" * 10_000])
def test_an_unknown_operation(name: str) -> None:
    with pytest.raises(UnsupportedOperation) as error:
        check(contract(name))
    assert str(error.value) == f"Unsupported operation: {name}"
    assert error.value.operation == name


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"operation": "insert", "data": [1]}, "data should be a dict, got list"),
        ({"operation": "insert", "data": None}, "data should be a dict, got NoneType"),
        ({"operation": "batch_insert", "patterns": {"a": 1}}, "patterns should be a list, got dict"),
        ({"operation": "batch_insert", "patterns": [1]}, "patterns should be a list of dict, got int at 0"),
        ({"operation": "query", "query_params": "x"}, "query_params should be a dict, got str"),
        ({"operation": "delete", "pattern_id": "x"}, "pattern_id should be a UUID, got str"),
        ({"operation": "update", "pattern_id": 1, "data": {"category": "x"}}, "pattern_id should be a UUID, got int"),
        ({}, "Unsupported operation: None"),
        ({"operation": ["insert"]}, "Unsupported operation: ['insert']"),
    ],
)
def test_a_contract_of_wrong_types(fields: dict[str, Any], text: str) -> None:
    with pytest.raises((ContractInvalid, UnsupportedOperation)) as error:
        check(ModelContractPatternStorage.model_construct(**fields))
    assert str(error.value) == text


def test_an_operation_asks_for_its_id_itself() -> None:
    for operation in (Update, Delete):
        asked = ModelContractPatternStorage.model_construct(operation=operation.__name__.lower())
        if operation is Update:
            asked.data = {"category": "x"}
        with pytest.raises(ContractInvalid, match=rf"^{operation.__name__} operation requires 'pattern_id' field$"):
            operation.check(asked)


def test_a_batch_of_10_000_passes_and_one_more_does_not() -> None:
    patterns = [make_pattern() for _ in range(MAX_PATTERNS)]
    batch = check(contract("batch_insert", patterns=patterns))
    assert isinstance(batch, BatchInsert)
    assert len(batch.patterns) == 10_000
    with pytest.raises(ContractInvalid) as error:
        check(contract("batch_insert", patterns=[*patterns, make_pattern()]))
    assert not isinstance(error.value, BatchInsertFailed)
    assert str(error.value) == "patterns: at most 10,000 in one batch, got 10,001"


@pytest.mark.parametrize("twin", [1, 5, 9])
def test_a_twin_inside_a_batch_is_found_at_its_second_place(twin: int) -> None:
    patterns = [make_pattern() for _ in range(10)]
    patterns[twin] = make_pattern(pattern_name=patterns[0]["pattern_name"])
    with pytest.raises(BatchInsertFailed) as error:
        check(contract("batch_insert", patterns=patterns))
    assert (error.value.index, error.value.error_type) == (twin, "unique_violation")
    assert isinstance(error.value.cause, UniqueViolation)
    assert error.value.cause.key == (patterns[0]["pattern_name"], "function", "python")


def test_case_and_kind_make_a_different_key() -> None:
    patterns = [
        make_pattern(pattern_name="a"),
        make_pattern(pattern_name="A"),
        make_pattern(pattern_name="a", pattern_type="class"),
        make_pattern(pattern_name="a", language="go"),
    ]
    assert check(contract("batch_insert", patterns=patterns))


REFUSED_PARAMETERS = [
    ({"limit": 0}, "limit should be greater than or equal to 1, got 0"),
    ({"limit": 1001}, "limit should be less than or equal to 1000, got 1001"),
    ({"limit": "10"}, "limit should be a valid integer, got '10'"),
    ({"limit": True}, "limit should be a valid integer, got True"),
    ({"limit": None}, "limit should be a valid integer, got None"),
    ({"order_by": "category"}, "order_by should be 'created_at', 'updated_at', 'pattern_name', "),
    ({"order_by": "id; DROP TABLE x"}, "order_by should be 'created_at', "),
    ({"descending": "yes"}, "descending should be a valid boolean, got 'yes'"),
    ({"langauge": "x"}, "unknown query parameter 'langauge'; did you mean 'language'?"),
    ({"offset": 1}, "unknown query parameter 'offset'; "),
    ({"min_confidence": 1.5}, "min_confidence should be less than or equal to 1, got 1.5"),
    ({"min_success_rate": -1}, "min_success_rate should be greater than or equal to 0, got -1"),
    ({"min_confidence": math.nan}, "min_confidence should be "),
    ({"tags_any": []}, "tags_any: List should have at least 1 item after validation, not 0, got list of 0"),
    ({"tags_all": "x"}, "tags_all should be a valid list, got 'x'"),
    ({"name_contains": ""}, "name_contains should have at least 1 character, got ''"),
    ({"category": "\x00"}, f"category: {NUL}, got '\\x00'"),
    ({"context_contains": [1]}, "context_contains should be a valid dictionary, got list of 1"),
    ({"id": "x"}, "id should be a valid UUID, "),
    ({"is_deprecated": 0}, "is_deprecated should be a valid boolean, got 0"),
    (
        {"created_after": "2026-01-31T12:00:00"},
        "created_after: must have a time zone, for example 2026-01-31T12:00:00Z, got '2026-01-31T12:00:00'",
    ),
    ({"updated_before": "yesterday"}, "updated_before should be a valid datetime"),
]


@pytest.mark.parametrize(("parameters", "text"), REFUSED_PARAMETERS)
def test_a_query_parameter_that_breaks_a_rule(parameters: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractInvalid) as error:
        check(contract("query", query_params=parameters))
    assert str(error.value).startswith(text)


def test_query_defaults() -> None:
    query = check(contract("query"))
    assert isinstance(query, Query)
    assert (query.params.limit, query.params.order_by, query.params.descending) == (50, "created_at", True)
    assert query.params.filters() == {}


def cursor_text(*parts: Any) -> str:
    """Return a forged cursor."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


FORGED = [
    "",
    "x",
    "not a cursor",
    "é",
    "====",
    "A" * 100_000,
    cursor_text(),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00"),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00", str(ID), 1),
    cursor_text("created_at", False, "2026-01-31T12:00:00+00:00", str(ID)),
    cursor_text("updated_at", True, "2026-01-31T12:00:00+00:00", str(ID)),
    cursor_text("created_at", True, "yesterday", str(ID)),
    cursor_text("created_at", True, "2026-01-31T12:00:00", str(ID)),
    cursor_text("created_at", True, 5, str(ID)),
    cursor_text("created_at", True, None, str(ID)),
    cursor_text("created_at", True, ["2026-01-31T12:00:00+00:00"], str(ID)),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00", "x"),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00", 5),
    cursor_text("created_at", True, "2026-01-31T12:00:00+00:00", None),
    cursor_text("created_at; DROP TABLE pattern_templates", True, 1, str(ID)),
    cursor_text({"a": 1}, True, 1, str(ID)),
]


@pytest.mark.parametrize("cursor", FORGED, ids=range(len(FORGED)))
def test_a_forged_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ContractInvalid) as error:
        check(contract("query", query_params={"cursor": cursor}))
    assert str(error.value) == "cursor is not the next_cursor of a query in this order; start again without it"


@pytest.mark.parametrize(
    ("order_by", "value"),
    [
        ("pattern_name", 1),
        ("pattern_name", None),
        ("pattern_name", "a\x00b"),
        ("pattern_name", "\ud800"),
        ("confidence_score", "0.5"),
        ("confidence_score", True),
        ("confidence_score", math.nan),
        ("confidence_score", math.inf),
        ("confidence_score", None),
        ("usage_count", "1"),
        ("usage_count", False),
        ("usage_count", [1]),
        ("usage_count", 10**400),
        ("success_rate", {}),
    ],
)
def test_a_cursor_with_a_value_its_column_never_has_is_refused(order_by: str, value: Any) -> None:
    forged = cursor_text(order_by, True, value, str(ID))
    with pytest.raises(ContractInvalid, match=r"^cursor is not the next_cursor of a query in this order"):
        check(contract("query", query_params={"cursor": forged, "order_by": order_by}))


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"a":1,"b":2,"c":3,"d":4}', "null", "\ufeff[]"])
def test_a_cursor_of_other_json_is_refused(text: str) -> None:
    forged = base64.urlsafe_b64encode(text.encode()).decode()
    with pytest.raises(ValueError, match="cursor is not"):
        Cursor.decode(forged, "created_at", True)


@pytest.mark.parametrize(
    ("order_by", "value"), [("pattern_name", "ü \u2028'"), ("usage_count", 3), ("success_rate", 0.1 + 0.2)]
)
def test_a_cursor_comes_back_as_it_was(order_by: str, value: Any) -> None:
    cursor = Cursor.of({order_by: value, "id": ID}, order_by, False)
    assert Cursor.decode(cursor.encode(), order_by, False) == cursor
