"""JSON Schema and AsyncAPI documents: equal to the models, true of real JSON, and without a reference to nowhere."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from pattern_storage.config.celeryconfig import queue_of
from pattern_storage.storage import ModelResult
from pattern_storage.storage.operations import OPERATIONS
from pattern_storage.tasks.client.message import encode_for_redis
from pattern_storage.tasks.client.outgoing import prepare
from pattern_storage.tasks.documents import documents, write
from pattern_storage.testing import make_contract, make_full_pattern, make_pattern
from pattern_storage.vocabulary import OperationName
from tests.fix_process import ROOT

DOCUMENTS = documents()
CONTRACTS = [
    make_contract(data=make_full_pattern()),
    make_contract("update", pattern_id=uuid4(), data={"usage_count": 3}, expect="2026-01-31T12:00:00Z"),
    make_contract("delete", pattern_id=uuid4()),
    make_contract("batch_insert"),
    make_contract("query", query_params={"tags_any": ["x"], "limit": 3}),
]


def check(name: str, value: object) -> None:
    resources = [(file, Resource.from_contents(one)) for file, one in DOCUMENTS.items() if file != "asyncapi.json"]
    registry: Any = Registry().with_resources(resources)
    Draft202012Validator(DOCUMENTS[name], registry=registry).validate(value)


def test_the_files_are_what_the_models_say(tmp_path: Path) -> None:
    """`make schemas` writes them."""
    write(str(tmp_path))
    folder = ROOT / "docs/schemas"
    assert {path.name for path in folder.iterdir()} == set(DOCUMENTS)
    for name in DOCUMENTS:
        assert (tmp_path / name).read_text() == (folder / name).read_text(), name


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda one: str(one.operation))
def test_contracts_and_messages_of_ours_are_right(contract: Any) -> None:
    check("contract.schema.json", contract.model_dump(mode="json"))
    queue, element = encode_for_redis(prepare(contract))
    message = json.loads(element)
    body = json.loads(b64decode(message["body"]))
    check("message.schema.json", {"headers": message["headers"], "properties": message["properties"], "body": body})
    assert queue in DOCUMENTS["asyncapi.json"]["channels"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"operation": "insert", "data": {"pattern_name": "x"}},
        {"operation": "insert", "data": make_pattern(confidence_score=2)},
        {"operation": "insert", "data": make_pattern(usage=2)},
        {"operation": "update", "pattern_id": "x", "data": {}},
        {"operation": "delete"},
        {"operation": "delete", "pattern_id": "x", "pattern": 1},
        {"operation": "batch_insert", "patterns": []},
        {"operation": "query", "query_params": {"foo": 3}},
        {"operation": "drop"},
    ],
)
def test_what_we_refuse_is_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check("contract.schema.json", wrong)


def result(data: object, operation: str = "insert", **metadata: Any) -> dict[str, Any]:
    metadata = {"correlation_id": str(uuid4()), "operation": operation, "duration_ms": 1.5} | metadata
    return ModelResult(success=data is not None, data=data, error=None if data else "no", metadata=metadata).to_dict()


def test_results() -> None:
    check("result.schema.json", result({"pattern_id": str(uuid4()), "pattern_name": "x", "created_at": "2026"}))
    check("result.schema.json", result(None, error_type="unique_violation"))
    page = {"patterns": [{**make_full_pattern(), "id": str(uuid4()), "created_at": "2026", "updated_at": "2026"}],
            "count": 1, "has_more": False, "next_cursor": None}  # fmt: skip
    check("result.schema.json", result(page, "query"))
    for wrong in (result({"pattern_id": str(uuid4())}), result(page | {"count": "1"}, "query"),
                  result(None, error_type="other"), {"success": True}):  # fmt: skip
        with pytest.raises(ValidationError):
            check("result.schema.json", wrong)


def test_every_operation_is_in_the_asyncapi_document() -> None:
    document = DOCUMENTS["asyncapi.json"]
    assert set(document["operations"]) == set(OPERATIONS) == set(OperationName)
    for operation, sent in document["operations"].items():
        assert sent["channel"] == {"$ref": f"#/channels/{queue_of(operation)}"}


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> Any:
        if isinstance(value, dict):
            yield from (value["$ref"],) if isinstance(value.get("$ref"), str) else ()
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from references(item)

    for name, document in DOCUMENTS.items():
        for reference in references(document):
            file, _, pointer = reference.partition("#")
            found: Any = DOCUMENTS[file or name]
            for part in filter(None, pointer.split("/")):
                found = found[part]
            assert found, reference
