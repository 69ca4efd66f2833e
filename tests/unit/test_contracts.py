"""Contracts and results: what is filled in, and that JSON carries them without loss."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from pydantic import ValidationError

from pattern_storage.storage import (
    ModelContractBase,
    ModelContractEffect,
    ModelContractPatternStorage,
    ModelPatternRecord,
    ModelResult,
)
from pattern_storage.storage.errors import ContractInvalid
from tests.fix_storage import contract, make_pattern

ID = UUID("01234567-89ab-cdef-0123-456789abcdef")


def test_defaults() -> None:
    made = contract("query")
    assert (made.version, made.node_type, made.pattern_id) == ("1.0.0", "effect", None)
    assert (made.data, made.patterns, made.query_params) == ({}, [], {})
    assert made.name == "pattern_storage_query"
    assert made.description == "Pattern storage operation: query"
    assert isinstance(made.correlation_id, UUID)


def test_each_contract_has_containers_and_an_id_of_its_own() -> None:
    first, second = contract("query"), contract("query")
    first.data["x"] = first.query_params["x"] = 1
    first.patterns.append({})
    assert (second.data, second.patterns, second.query_params) == ({}, [], {})
    assert first.correlation_id != second.correlation_id


def test_given_names_are_kept() -> None:
    made = contract("query", name="mine", description="my own", version="2.1", correlation_id=ID)
    assert (made.name, made.description, made.version, made.correlation_id) == ("mine", "my own", "2.1", ID)


@pytest.mark.parametrize("operation", ["insert", "update", "delete", "batch_insert", "query", "anything"])
def test_empty_names_are_filled_in_for_every_operation(operation: str) -> None:
    made = contract(operation, **({"pattern_id": ID} if operation in ("update", "delete") else {}),
                    **({"data": make_pattern()} if operation in ("insert", "update") else {}),
                    **({"patterns": [make_pattern()]} if operation == "batch_insert" else {}))  # fmt: skip
    assert made.name == f"pattern_storage_{operation}"
    assert operation in made.description


def test_the_bases_ask_for_a_name_and_an_operation() -> None:
    base = ModelContractBase(name="x")
    assert (base.version, base.description, type(base.correlation_id)) == ("1.0.0", "", UUID)
    effect = ModelContractEffect(name="x", operation="insert")
    assert (effect.operation, effect.node_type) == ("insert", "effect")
    with pytest.raises(ContractInvalid, match="name"):
        ModelContractBase()  # type: ignore[call-arg]
    with pytest.raises(ContractInvalid, match="operation is required"):
        ModelContractPatternStorage()  # type: ignore[call-arg]
    with pytest.raises(ContractInvalid, match="'effect'"):
        ModelContractEffect(name="x", operation="insert", node_type="compute")
    assert issubclass(ModelContractPatternStorage, ModelContractEffect)
    assert issubclass(ModelContractEffect, ModelContractBase)


def test_a_pattern_id_may_be_a_text() -> None:
    assert contract("delete", pattern_id=str(ID)).pattern_id == ID


DATA = make_pattern(
    parent_pattern_id=ID,
    confidence_score=5e-324,
    success_rate=0.1 + 0.2,
    performance_score=1.7976931348623157e308,
    maintainability_score=float("inf"),
    tags=["", "a,b", '"', "ünï\u2028", "{}"],
    context={"at": datetime(2026, 1, 31, 12, tzinfo=UTC), "deep": {"er": [{"id": ID, "n": None, "b": True}, -0.0]}},
    usage_count=2**53 + 1,
)


def test_a_round_trip_through_json_loses_nothing() -> None:
    made = contract("insert", data=DATA)
    text = made.model_dump_json()
    back = ModelContractPatternStorage.model_validate_json(text)
    assert back == made
    assert ModelContractPatternStorage.model_validate(json.loads(text)) == made
    assert ModelContractPatternStorage.model_validate(made.model_dump(mode="json")) == made
    assert back.model_dump_json() == text
    assert back.data["confidence_score"] == 5e-324
    assert back.data["success_rate"] == 0.1 + 0.2
    assert back.data["performance_score"] == 1.7976931348623157e308
    assert back.data["maintainability_score"] == float("inf")
    assert back.data["usage_count"] == 2**53 + 1
    assert str(back.data["context"]["deep"]["er"][1]) == "-0.0"


def test_what_json_does_not_know_is_brought_to_its_text_when_the_contract_is_built() -> None:
    data = contract("insert", data=DATA).data
    assert data["parent_pattern_id"] == str(ID)
    assert data["context"]["at"] == "2026-01-31T12:00:00Z"
    assert data["context"]["deep"]["er"][0] == {"id": str(ID), "n": None, "b": True}
    batch = contract("batch_insert", patterns=[DATA]).patterns
    assert batch == [data]
    assert contract("query", query_params={"id": ID}).query_params == {"id": str(ID)}


def test_a_contract_does_not_share_what_its_builder_goes_on_to_change() -> None:
    data = make_pattern(context={"list": [1]})
    made = contract("insert", data=data)
    data["context"]["list"].append(2)
    assert made.data["context"] == {"list": [1]}


def test_a_result_as_plain_json() -> None:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    result = ModelResult(success=True, data={"pattern_id": ID, "at": at, "list": (1,)}, metadata={"correlation_id": ID})
    plain = result.to_dict()
    assert plain == {
        "success": True,
        "data": {"pattern_id": str(ID), "at": "2026-01-31T00:00:00Z", "list": [1]},
        "error": None,
        "metadata": {"correlation_id": str(ID)},
    }
    assert ModelResult.model_validate(json.loads(json.dumps(plain))).to_dict() == plain
    assert ModelResult(success=False, error="no").to_dict() == {
        "success": False,
        "data": None,
        "error": "no",
        "metadata": {},
    }


def test_data_must_be_an_object() -> None:
    for not_an_object in (7, "x", None):
        with pytest.raises(ContractInvalid) as refusal:
            contract("insert", data=not_an_object)
        assert str(refusal.value).startswith("data should be a valid dictionary, got ")
    with pytest.raises(ContractInvalid) as refusal:
        ModelContractPatternStorage.model_validate({})
    assert str(refusal.value) == "operation is required"


def test_a_result_says_whether_it_is_one() -> None:
    with pytest.raises(ValidationError, match="success"):
        ModelResult()  # type: ignore[call-arg]


def test_a_record_has_the_22_columns() -> None:
    columns = ModelPatternRecord.model_fields
    assert len(columns) == 22
    given = make_pattern(id=str(ID), created_at="2026-01-31T12:00:00Z", updated_at="2026-01-31T12:00:00+00:00")
    record = ModelPatternRecord.model_validate(given)
    assert (record.id, record.created_at) == (ID, datetime(2026, 1, 31, 12, tzinfo=UTC))
    with pytest.raises(ValidationError, match="unknown column 'create_at'; did you mean 'created_at'"):
        ModelPatternRecord.model_validate(given | {"create_at": "2026-01-31T12:00:00Z"})
