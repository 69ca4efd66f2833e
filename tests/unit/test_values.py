"""Every rule for a value, at and beyond its limit, and the sentence that refuses what breaks it."""

import json
import math
from typing import Any
from uuid import UUID

import pytest
from pydantic_core import to_json

from pattern_storage.storage.errors import BatchInsertFailed, ContractInvalid
from pattern_storage.storage.operations import check
from pattern_storage.storage.operations.insert import Insert
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
