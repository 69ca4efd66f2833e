"""Types of the client: patterns as models, attributes of a result, one kind of error; tests/system has mypy's."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, get_type_hints
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ValidationError

from pattern_storage import ContractInvalid, ModelContractPatternStorage, ModelResult, Pattern
from pattern_storage.storage.operations.query_params import QueryParams
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.storage.pattern_columns import PatternChanges, PatternColumns
from pattern_storage.tasks.client.call_options import CallOptions
from pattern_storage.tasks.client.outgoing import build, contract_of, prepare, prepare_insert
from pattern_storage.tasks.client.query_arguments import QueryArguments
from pattern_storage.testing import make_full_pattern, make_pattern


def test_the_typed_dictionaries_name_what_the_models_have() -> None:
    assert tuple(get_type_hints(PatternColumns)) == tuple(get_type_hints(PatternChanges)) == WRITABLE
    required = {name for name, field in Pattern.model_fields.items() if field.is_required()}
    assert (PatternColumns.__required_keys__, PatternChanges.__required_keys__) == (frozenset(required), frozenset())
    arguments = set(get_type_hints(QueryArguments)) - set(get_type_hints(CallOptions))
    assert arguments == set(QueryParams.model_fields)


# --- patterns as models ---


def test_a_model_is_sent_as_the_columns_that_were_given() -> None:
    pattern = make_pattern(parent_pattern_id=uuid4(), tags=["x"])
    plain = pattern | {"parent_pattern_id": str(pattern["parent_pattern_id"])}
    sent = contract_of(prepare_insert(Pattern(**pattern)).contract)
    assert sent.data == plain
    assert contract_of(prepare_insert(pattern).contract).data == plain
    batch = build("batch_insert", patterns=[Pattern(**pattern), make_pattern()])
    assert batch.patterns[0] == plain
    assert build("update", pattern_id=uuid4(), data=Pattern(**make_full_pattern())).data.keys() == set(WRITABLE)


@pytest.mark.parametrize("many", [list, tuple])
def test_a_contract_takes_models_too(many: Callable[[list[Any]], Any]) -> None:
    """As the outbox needs: its contract is built by hand."""
    pattern = make_pattern()
    assert ModelContractPatternStorage(operation="insert", data=Pattern(**pattern)).data == pattern
    batch = ModelContractPatternStorage(operation="batch_insert", patterns=many([Pattern(**pattern), make_pattern()]))
    assert (batch.patterns[0], len(batch.patterns)) == (pattern, 2)


def test_the_typed_dictionaries_are_fields_of_models() -> None:
    class Body(BaseModel):
        changes: PatternChanges
        new: PatternColumns | None = None

    parent = uuid4()
    assert Body(changes={"usage_count": 3, "parent_pattern_id": parent}).changes["parent_pattern_id"] == parent
    assert Body.model_validate({"changes": {}, "new": make_pattern()}).new is not None
    for wrong in ({"usage_cont": 3}, {"usage_count": "3"}):
        with pytest.raises(ValidationError, match="usage_co"):
            Body.model_validate({"changes": wrong})


def test_a_model_that_was_changed_is_checked_again() -> None:
    pattern = Pattern(**make_pattern())
    pattern.confidence_score = 7
    with pytest.raises(ContractInvalid, match="confidence_score should be less than or equal to 1, got 7"):
        prepare_insert(pattern)


# --- results ---

ID = "0197c1d0-0000-7000-8000-000000000001"
RECORD = {**make_full_pattern(), "id": ID, "created_at": "2026-01-31T12:00:00Z", "updated_at": "2026-01-31T12:00:00Z"}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("operation", "data", "attributes"),
    [
        ("insert", {"pattern_id": ID, "pattern_name": "a", "created_at": "2026-01-31T12:00:00Z"},
         {"pattern_id": UUID(ID), "pattern_name": "a", "created_at": NOON}),
        ("update", {"pattern_id": ID, "pattern_name": "a", "updated_at": "2026-01-31T12:00:00Z",
          "fields_updated": ["b"]},
         {"pattern_id": UUID(ID), "updated_at": NOON, "fields_updated": ["b"]}),
        ("delete", {"pattern_id": ID, "pattern_name": "a", "deleted": True}, {"pattern_name": "a", "deleted": True}),
        ("batch_insert", {"pattern_ids": [ID], "pattern_names": ["a"], "count": 1, "batch_success": True},
         {"pattern_ids": [UUID(ID)], "pattern_names": ["a"], "count": 1, "batch_success": True}),
        ("query", {"patterns": [], "count": 0, "has_more": True, "next_cursor": "c"},
         {"patterns": [], "count": 0, "has_more": True, "next_cursor": "c"}),
    ],
)  # fmt: skip
def test_results_have_types_and_are_dictionaries(operation: str, data: dict[str, Any], attributes: Any) -> None:
    stored = {"success": True, "data": data, "error": None, "metadata": {"operation": operation}}
    for result in (ModelResult(success=True, data=data, metadata={"operation": operation}), ModelResult(**stored)):
        assert {name: getattr(result.data, name) for name in attributes} == attributes
        assert isinstance(result.data, dict)
        assert result.data == data
        assert result.to_dict() == stored
        assert type(result.to_dict()["data"]) is dict
        assert ModelResult.model_validate_json(result.model_dump_json()) == result


def test_a_page_has_records() -> None:
    data = {"patterns": [RECORD], "count": 1, "has_more": False, "next_cursor": None}
    [record] = ModelResult(success=True, data=data, metadata={"operation": "query"}).data.patterns
    assert (record.id, record.updated_at, record.tags) == (UUID(ID), NOON, RECORD["tags"])


@pytest.mark.parametrize("metadata", [{}, {"operation": None}, {"operation": ["insert"]}, {"operation": "import"}])
def test_other_data_is_left_as_it_is(metadata: dict[str, Any]) -> None:
    assert type(ModelResult(success=True, data={"a": 1}, metadata=metadata).data) is dict
    assert ModelResult(success=True, data=3, metadata={"operation": "insert"}).data == 3


# --- one mistake, one kind of error ---

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"operation": "insert", "data": {}}, r"Insert operation missing required fields: \['pattern_name', "),
    ({"operation": "delete"}, "Delete operation requires 'pattern_id' field$"),
    ({"operation": "delete", "pattern_id": "x"}, "pattern_id should be a valid UUID"),
    ({"operation": "delete", "patern_id": "x"}, "unknown field 'patern_id'; did you mean 'pattern_id'"),
    ({"operation": "query", "query_params": 3}, r"query_params should be (a valid dictionary|an object), got 3$"),
]


@pytest.mark.parametrize(("fields", "sentence"), MISTAKES)
def test_a_contract_is_refused_in_one_way(fields: dict[str, Any], sentence: str) -> None:
    ways: list[Callable[[], object]] = [
        lambda: ModelContractPatternStorage(**fields),
        lambda: ModelContractPatternStorage.model_validate(fields),
        lambda: ModelContractPatternStorage.model_validate_json(json.dumps(fields)),
        lambda: build(**fields),
    ]
    for refuse in ways:
        with pytest.raises(ContractInvalid, match=f"^{sentence}"):
            refuse()


def test_a_value_is_refused_in_one_way() -> None:
    """When it is to be sent; what a contract holds until then may still be changed."""
    bad = make_pattern(confidence_score=2)
    ways: list[Callable[[], object]] = [
        lambda: prepare_insert(bad),
        lambda: prepare(ModelContractPatternStorage(operation="insert", data=bad)),
        lambda: prepare_insert(Pattern.model_construct(**bad)),
    ]
    for refuse in ways:
        with pytest.raises(ContractInvalid, match=r"^confidence_score should be less than or equal to 1, got 2"):
            refuse()


def test_inside_of_another_model_it_is_a_finding_of_that_one() -> None:
    class Request(BaseModel):
        contract: ModelContractPatternStorage

    with pytest.raises(ValidationError, match="Delete operation requires 'pattern_id' field"):
        Request.model_validate({"contract": {"operation": "delete"}})
