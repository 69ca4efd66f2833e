"""JSON Schema and AsyncAPI documents for other languages: `make schemas` writes docs/schemas, and a test compares."""

import json
from pathlib import Path
from typing import Any

from pattern_storage.tasks.documents.asyncapi import asyncapi
from pattern_storage.tasks.documents.schemas import contract_schema, message_schema, result_schema


def documents() -> dict[str, dict[str, Any]]:
    """Return each document by the name of its file."""
    return {
        "contract.schema.json": contract_schema(),
        "result.schema.json": result_schema(),
        "message.schema.json": message_schema(),
        "asyncapi.json": asyncapi(),
    }


def write(folder: str) -> None:
    """Write the documents into a folder."""
    for name, document in documents().items():
        (Path(folder) / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
