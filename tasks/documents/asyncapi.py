"""AsyncAPI of the queues and results: https://www.asyncapi.com/docs/reference/specification/v3.0.0."""

from typing import Any

from pattern_storage.config.celeryconfig import QUEUES, queue_of
from pattern_storage.version import __version__
from pattern_storage.vocabulary import OperationName


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document: queues, results, and what goes over them."""
    queues = {
        name: {"address": name, "messages": {"job": {"$ref": "#/components/messages/job"}}}
        for name in QUEUES
        if any(queue_of(operation) == name for operation in OperationName)
    }
    results = {
        "address": "celery-task-meta-{correlation_id}",
        "description": "Redis key and channel: GET it, or SUBSCRIBE and GET it, since it is published once.",
        "parameters": {"correlation_id": {"description": "the job's id, a UUID"}},
        "messages": {"result": {"$ref": "#/components/messages/result"}},
    }
    sent = {
        str(operation): {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{queue_of(operation)}"},
            "summary": f"The task storage.{operation}.",
            "reply": {"channel": {"$ref": "#/channels/results"}},
        }
        for operation in OperationName
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "pattern-storage", "version": __version__, "description": "Jobs that store patterns."},
        "defaultContentType": "application/json",
        "channels": queues | {"results": results},
        "operations": sent,
        "components": {
            "messages": {
                "job": {
                    "headers": {"$ref": "message.schema.json#/properties/headers"},
                    "payload": {"$ref": "message.schema.json#/properties/body"},
                    "correlationId": {"location": "$message.header#/id"},
                },
                "result": {
                    "payload": {
                        "type": "object",
                        "description": "Celery's result document",
                        "properties": {
                            "status": {"enum": ["QUEUED", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"]},
                            "result": {
                                "description": "SUCCESS: a result. FAILURE: an exception, whose first argument is one.",
                                "anyOf": [
                                    {"$ref": "result.schema.json"},
                                    {
                                        "type": "object",
                                        "properties": {
                                            "exc_type": {"const": "StorageOperationFailed"},
                                            "exc_message": {
                                                "type": "array",
                                                "prefixItems": [{"$ref": "result.schema.json"}],
                                            },
                                        },
                                        "required": ["exc_type", "exc_message"],
                                    },
                                    {"type": "null"},
                                ],
                            },
                        },
                        "required": ["status", "result"],
                    }
                },
            }
        },
    }
