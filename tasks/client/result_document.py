"""Celery's result document of a job: its Redis key, and parsing it into progress and a ModelResult."""

import json
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from pydantic_core import from_json
from redis.exceptions import ResponseError

from pattern_storage.storage import ModelResult
from pattern_storage.storage.errors import CorrelationConflict
from pattern_storage.tasks.errors import error_type_of
from pattern_storage.vocabulary import FINAL_STATES, ErrorType, JobState


def result_key(correlation_id: UUID | str, prefix: str = "") -> str:
    """Return the Redis key, and channel, of a job's result: Celery's own, so any Celery application finds it.

    Args:
        correlation_id: the job.
        prefix: `Settings.key_prefix`.
    """
    return f"{prefix}celery-task-meta-{correlation_id}"


def read_document(meta: bytes | str) -> dict[str, Any] | None:
    """Return the parsed result document; None if it is not one."""
    try:
        document = from_json(meta)
    except ValueError:
        # pydantic's parser refuses lone surrogates, which Python's accepts.
        try:
            document = json.loads(meta)
        except (ValueError, RecursionError):
            return None
    readable = isinstance(document, dict) and isinstance(document.get("status"), str)
    return document if readable else None


def parse_progress(meta: bytes | str | None) -> dict[str, Any] | None:
    """Return the progress of an import that runs (`tasks.imports.run.progress.Progress.to_dict`), None otherwise."""
    document = None if meta is None else read_document(meta)
    if document is None or document["status"] != JobState.PROGRESS:
        return None
    return document["result"] if isinstance(document.get("result"), dict) else None


def parse_result(correlation_id: UUID, meta: bytes | str | None) -> ModelResult | None:
    """Return a finished job's ModelResult, None for a job that is not finished.

    A job that Celery ended (a killed worker, a time limit, a revoked job) has a ModelResult too.
    """
    return None if meta is None else result_of(correlation_id, read_document(meta))


def result_of(correlation_id: UUID, document: dict[str, Any] | None) -> ModelResult | None:
    """Return the same as `parse_result`, for a document that `read_document` has returned."""
    if document is None:
        error = "what stands under the job's result key is no result"
        return _failure(correlation_id, ErrorType.UNREADABLE_RESULT, error)
    status: str = document["status"]
    value: Any = document.get("result")
    if status not in FINAL_STATES:
        return None
    if status == JobState.REVOKED:
        return _failure(correlation_id, ErrorType.REVOKED, "the job was revoked before it was done")
    try:
        if status == JobState.SUCCESS:
            return ModelResult.model_validate(value)
        if status == JobState.FAILURE and value["exc_type"] == "StorageOperationFailed":
            return ModelResult.model_validate(value["exc_message"][0])
        exception, message = value["exc_type"], value.get("exc_message", "")
        error_type = error_type_of(exception)
    except (ValidationError, LookupError, TypeError, AttributeError):
        error = f"the result of this {status} job is not one of ours"
        return _failure(correlation_id, ErrorType.UNREADABLE_RESULT, error)
    text = " ".join(map(str, message)) if isinstance(message, list) else str(message)
    return _failure(correlation_id, error_type, f"the worker could not finish the job: {exception}: {text}")


def unreadable(error: ResponseError) -> bytes:
    """Return a document that `parse_result` finds unreadable, for a key of another type; raise any other error."""
    if not str(error).startswith("WRONGTYPE"):
        raise error
    return b""


def ended_by_celery(result: ModelResult) -> bool:
    """Whether Celery ended the job (killed, timed out, revoked): it may have committed before."""
    return not result.success and result.metadata.get("operation") is None


def matches_request(request: str | None, result: ModelResult) -> bool:
    """Whether this is the result of that request, as far as both are known."""
    answered = {result.metadata.get("request"), result.metadata.get("canonical_request")} - {None}
    return request is None or not answered or not answered.isdisjoint(request.split())


def checked_result(correlation_id: UUID, request: str | None, result: ModelResult) -> ModelResult:
    """Return the result, or a `correlation_conflict` if it belongs to another request than the caller's.

    Args:
        correlation_id: the job.
        request: the caller's `Request.fingerprint`; None if it is not known.
        result: the result in Redis or the ledger under the correlation id.
    """
    if matches_request(request, result):
        return result
    conflict = CorrelationConflict(correlation_id)
    return _failure(correlation_id, conflict.error_type, str(conflict))


def _failure(correlation_id: UUID, error_type: ErrorType, error: str) -> ModelResult:
    # The worker reported neither operation nor duration.
    return ModelResult.failure(error, error_type, correlation_id=correlation_id, operation=None)
