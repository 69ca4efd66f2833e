"""Contracts that are refused: fields missing, unknown or of another operation, wrong types, and batches."""

import re
from typing import Any
from uuid import UUID

import pytest

from pattern_storage import storage
from pattern_storage.storage import (
    ModelContractPatternStorage,
)
from pattern_storage.storage.errors import BatchInsertFailed, ContractInvalid, UniqueViolation, UnsupportedOperation
from pattern_storage.storage.operations import check
from pattern_storage.storage.operations.batch_insert import MAX_PATTERNS, BatchInsert
from pattern_storage.storage.operations.delete import Delete
from pattern_storage.storage.operations.update import Update
from tests.fix_storage import contract, make_pattern

ID = UUID("01234567-89ab-cdef-0123-456789abcdef")


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


def without(*columns: str) -> dict[str, Any]:
    return {name: value for name, value in make_pattern().items() if name not in columns}


REFUSALS = [
    (
        {"operation": "insert"},
        "Insert operation missing required fields: ['pattern_name', 'pattern_type', 'language', 'template_code']",
    ),
    (
        {"operation": "insert", "data": without("language", "pattern_name")},
        "Insert operation missing required fields: ['pattern_name', 'language']",
    ),
    (
        {"operation": "insert", "data": make_pattern(template_code=None)},
        "Insert operation missing required fields: ['template_code']",
    ),
    ({"operation": "update", "data": {"category": "x"}}, "Update operation requires 'pattern_id' field"),
    ({"operation": "update", "pattern_id": ID}, "Update operation requires 'data' field with updates"),
    ({"operation": "update"}, "Update operation requires 'pattern_id' field"),
    ({"operation": "delete"}, "Delete operation requires 'pattern_id' field"),
    ({"operation": "batch_insert"}, "Batch insert operation requires 'patterns' list"),
    (
        {"operation": "batch_insert", "patterns": [make_pattern(), without("language")]},
        "Pattern 1 missing required fields: ['language']",
    ),
]


@pytest.mark.parametrize(("fields", "text"), REFUSALS)
def test_an_incomplete_contract_is_refused_when_it_is_built(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)) as refusal:
        ModelContractPatternStorage(**fields)
    assert isinstance(refusal.value, ContractInvalid)
    assert str(refusal.value) == text


@pytest.mark.parametrize(("fields", "text"), REFUSALS)
def test_a_contract_that_dodged_validation_is_refused_in_the_same_words(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(storage.errors.ContractInvalid) as refusal:
        check(ModelContractPatternStorage.model_construct(**fields))
    assert str(refusal.value) == text


@pytest.mark.parametrize(
    ("field", "suggestion"),
    [
        ("patern_id", "did you mean 'pattern_id'?"),
        ("query_param", "did you mean 'query_params'?"),
        ("zzz", "known are name, version, description, correlation_id, operation, node_type"),
    ],
)
def test_an_unknown_field_is_refused_with_a_suggestion(field: str, suggestion: str) -> None:
    with pytest.raises(ContractInvalid) as refusal:
        contract("query", **{field: 1})
    assert str(refusal.value).startswith(f"unknown field {field!r}; {suggestion}")


@pytest.mark.parametrize("not_an_id", ["no uuid", 7, "01234567-89ab-cdef-0123"])
def test_a_pattern_id_must_be_a_uuid(not_an_id: Any) -> None:
    with pytest.raises(ContractInvalid) as refusal:
        contract("delete", pattern_id=not_an_id)
    assert str(refusal.value).startswith(("pattern_id ", "pattern_id: "))
    assert repr(not_an_id) in str(refusal.value)


@pytest.mark.parametrize(
    "data",
    [
        {"pattern_name": "\ud800"},
        {"\udfff": 1},
        {"context": {"k": ["\ud800"]}},
        {"context": object()},
        {"usage_count": 10**5000},
    ],
)
def test_what_json_cannot_carry_is_refused_when_the_contract_is_built(data: dict[str, Any]) -> None:
    with pytest.raises(ContractInvalid) as refusal:
        contract("insert", data=make_pattern(**data))
    assert str(refusal.value).startswith("data: ")
    str(refusal.value).encode()


@pytest.mark.parametrize("field", ["name", "version", "description"])
def test_a_contract_s_own_texts_have_limits(field: str) -> None:
    """They are stored with a dead letter, where a NUL would make it unreadable."""
    data = make_pattern()
    with pytest.raises(ValueError, match=f"^{field}: .*NUL"):
        contract("insert", data=data, **{field: "a\0b"})
    with pytest.raises(ValueError, match="at most"):
        contract("insert", data=data, **{field: "x" * (2**20 + 1)})


def test_values_stay_out_of_a_refusal() -> None:
    with pytest.raises(ContractInvalid) as refusal:
        contract("insert", data={"template_code": "hunter2"})
    assert "hunter2" not in str(refusal.value)
