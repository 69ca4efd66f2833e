"""Parsing of Celery's result documents into a status and a ModelResult."""

import json
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from pattern_storage.storage import ModelResult
from pattern_storage.storage.errors import CorrelationConflict
from pattern_storage.tasks.errors import error_type_of
from pattern_storage.vocabulary import FINAL_STATES, ErrorType, JobState


def result_key(correlation_id: UUID) -> str:
    """Return the Redis key, and channel, of a job's result: Celery's own, so any Celery application finds it."""
    return f"celery-task-meta-{correlation_id}"


def marker(status: JobState) -> str:
    """Return the result document that the client itself writes: QUEUED at submission, REVOKED when it cancels."""
    return json.dumps({"status": status, "result": None, "traceback": None, "children": []})


def parse_status(meta: bytes | str | None) -> str:
    """Return a job's status: UNKNOWN, QUEUED, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED."""
    return JobState.UNKNOWN if meta is None else str(json.loads(meta)["status"])


def parse_progress(meta: bytes | str | None) -> dict[str, Any] | None:
    """Return how far an import is (`tasks.imports.run.progress.Progress.to_dict`), None if it is not being done now."""
    found: dict[str, Any] = {} if meta is None else json.loads(meta)
    return found["result"] if found.get("status") == JobState.PROGRESS else None


def parse_result(correlation_id: UUID, meta: bytes | str | None) -> ModelResult | None:
    """Return a finished job's ModelResult, None for a job that is not finished.

    Also a job that Celery ended (a killed worker, a time limit, a revoked job) gets a ModelResult.
    """
    if meta is None:
        return None
    found: dict[str, Any] = json.loads(meta)
    status, value = found["status"], found["result"]
    if status not in FINAL_STATES:
        return None
    try:
        if status == JobState.SUCCESS:
            return ModelResult.model_validate(value)
        if status == JobState.FAILURE and value["exc_type"] == "StorageOperationFailed":
            return ModelResult.model_validate(value["exc_message"][0])
    except (ValidationError, LookupError, TypeError):
        error = f"the result of this {status} job is not one of ours"
        return _failure(correlation_id, ErrorType.UNREADABLE_RESULT, error)
    if status == JobState.REVOKED:
        return _failure(correlation_id, ErrorType.REVOKED, "the job was revoked before it was done")
    message = value.get("exc_message", "")
    text = " ".join(map(str, message)) if isinstance(message, list) else str(message)
    error_type = error_type_of(value["exc_type"])
    return _failure(correlation_id, error_type, f"the worker could not finish the job: {value['exc_type']}: {text}")


def ended_by_celery(result: ModelResult) -> bool:
    """Whether Celery ended the job (killed, timed out, revoked): it may have committed all the same."""
    return not result.success and result.metadata.get("operation") is None


def matches_request(request: str | None, result: ModelResult) -> bool:
    """Whether this is the result of that request, as far as both are known."""
    return request is None or result.metadata.get("request") in (None, request)


def checked_result(request: str | None, result: ModelResult) -> ModelResult:
    """Return the result, or a `correlation_conflict` if it belongs to another request than the caller's.

    Args:
        request: the fingerprint of what the caller asked for, as hexadecimal digits; None if it is not known.
        result: what Redis or the ledger has under the correlation id.
    """
    if matches_request(request, result):
        return result
    conflict = CorrelationConflict(UUID(result.metadata["correlation_id"]))
    return _failure(conflict.correlation_id, conflict.error_type, str(conflict))


def _failure(correlation_id: UUID, error_type: ErrorType, error: str) -> ModelResult:
    # What the worker never reported is not known: neither the operation nor the duration.
    return ModelResult.failure(error, error_type, correlation_id=correlation_id, operation=None)
