"""JSON Schema of what is public in JSON: contracts, results and messages, made from the models."""

from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from pattern_storage.storage.model_contract_pattern_storage import ModelContractPatternStorage, ModelResult
from pattern_storage.storage.operations.batch_insert import MAX_PATTERNS
from pattern_storage.storage.operations.query_params import QueryParams
from pattern_storage.storage.pattern import ModelPatternRecord, Pattern
from pattern_storage.storage.result_data import KINDS
from pattern_storage.tasks.client.message import EMBED
from pattern_storage.tasks.worker.message_validation import Headers, Properties
from pattern_storage.vocabulary import ErrorType, OperationName

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: What a contract's fields hold, by operation: `$ref`s into `definitions`.
FIELDS: dict[OperationName, dict[str, Any]] = {
    OperationName.INSERT: {"data": {"$ref": "#/$defs/Pattern"}},
    OperationName.UPDATE: {"pattern_id": {"type": "string"}, "data": {"$ref": "#/$defs/PatternChanges"}},
    OperationName.DELETE: {"pattern_id": {"type": "string"}},
    OperationName.BATCH_INSERT: {
        "patterns": {
            "type": "array",
            "items": {"$ref": "#/$defs/Pattern"},
            "minItems": 1,
            "maxItems": MAX_PATTERNS,
        }
    },
    OperationName.QUERY: {"query_params": {"$ref": "#/$defs/QueryParams"}},
}
#: Those that may be left out.
OPTIONAL = {"query_params"}


def contract_schema() -> dict[str, Any]:
    """Return the schema of a contract, with what each operation needs."""
    definitions = _definitions(ModelContractPatternStorage, Pattern, QueryParams)
    contract = definitions.pop("ModelContractPatternStorage")
    changes = {**definitions["Pattern"], "title": "PatternChanges", "minProperties": 1}
    del changes["required"]
    definitions["PatternChanges"] = changes
    cases = [
        {
            "if": {"properties": {"operation": {"const": str(operation)}}},
            "then": {"properties": fields, "required": [name for name in fields if name not in OPTIONAL]},
        }
        for operation, fields in FIELDS.items()
    ]
    contract["properties"]["operation"] = {"enum": [str(operation) for operation in OperationName]}
    return {
        **_head("contract", "A request: what is in a message under `contract`, and in a row of the outbox."),
        **{name: value for name, value in contract.items() if name not in ("title", "description")},
        "allOf": cases,
        "$defs": definitions,
    }


def result_schema() -> dict[str, Any]:
    """Return the schema of a ModelResult, with the data of each operation."""
    definitions = _definitions(ModelResult, ModelPatternRecord)
    result = definitions.pop("ModelResult")
    cases = []
    for operation, kind in KINDS.items():
        properties = {name: _property(getattr(kind, name)) for name in _names(kind)}
        definitions[kind.__name__] = {"type": "object", "properties": properties, "required": list(properties)}
        succeeded = {"success": {"const": True}, "metadata": {"properties": {"operation": {"const": str(operation)}}}}
        cases.append(
            {
                "if": {"properties": succeeded},
                "then": {"properties": {"data": {"$ref": f"#/$defs/{kind.__name__}"}}},
            }
        )
    failed = {
        "if": {"properties": {"success": {"const": False}}},
        "then": {"properties": {"error": {"type": "string"}, "data": {"type": "null"}}},
    }
    result["properties"]["metadata"] = {
        "type": "object",
        "required": ["correlation_id", "operation", "duration_ms"],
        "properties": {
            "correlation_id": {"type": "string", "format": "uuid"},
            "operation": {"type": ["string", "null"]},
            "duration_ms": {"type": ["number", "null"]},
            "error_type": {"enum": [str(one) for one in ErrorType]},
            "replayed": {"type": "boolean"},
        },
    }
    return {
        **_head("result", "What became of a job: `result` of Celery's result document, or what is in its exception."),
        **{name: value for name, value in result.items() if name not in ("title", "description")},
        "required": ["success", "metadata"],
        "allOf": [*cases, failed],
        "$defs": definitions,
    }


def message_schema() -> dict[str, Any]:
    """Return the schema of a message: headers, properties and body of Celery's protocol 2."""
    definitions = _definitions(Headers, Properties)
    # Of protocol 1 are those that older Celery sends.
    headers, properties = definitions.pop("Headers"), definitions.pop("Properties")
    headers["properties"]["task"] = {"enum": [f"storage.{operation}" for operation in OperationName]}
    headers["properties"]["id"] = {"type": "string", "format": "uuid", "description": "the correlation id"}
    body = {
        "description": "args, kwargs and what follows the job",
        "type": "array",
        "prefixItems": [
            {"type": "array", "maxItems": 0},
            {
                "type": "object",
                "properties": {"contract": {"$ref": "contract.schema.json"}},
                "required": ["contract"],
                "additionalProperties": False,
            },
            {"type": ["object", "null"], "properties": {name: {} for name in EMBED}},
        ],
        "minItems": 3,
        "maxItems": 3,
    }
    return {
        **_head("message", "What a broker carries; on Redis an element of the queue's list, its body as base64."),
        "type": "object",
        "properties": {"headers": headers, "properties": properties, "body": body},
        "required": ["headers", "body"],
        "$defs": definitions,
    }


def _head(name: str, description: str) -> dict[str, Any]:
    return {"$schema": DIALECT, "$id": f"{name}.schema.json", "title": name, "description": description}


def _definitions(*models: Any) -> dict[str, Any]:
    _, schema = models_json_schema([(model, "validation") for model in models])
    definitions: dict[str, Any] = schema["$defs"]
    # Docstrings are for Python.
    for one in definitions.values():
        one.pop("description", None)
    return definitions


def _names(kind: type) -> list[str]:
    return [
        name for base in reversed(kind.__mro__) for name, value in vars(base).items() if isinstance(value, property)
    ]


def _property(attribute: property) -> dict[str, Any]:
    returned = get_type_hints(attribute.fget)["return"]
    if returned == list[ModelPatternRecord]:
        return {"type": "array", "items": {"$ref": "#/$defs/ModelPatternRecord"}}
    return TypeAdapter(returned).json_schema()
