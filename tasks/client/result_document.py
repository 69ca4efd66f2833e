"""Celery's result document of a job: its Redis key, and its parsing into progress and a ModelResult."""

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


def result_key(correlation_id: UUID, prefix: str = "") -> str:
    """Return the Redis key, and channel, of a job's result: Celery's own, so any Celery application finds it.

    Args:
        correlation_id: the job.
        prefix: what all keys begin with, `Settings.key_prefix`.
    """
    return f"{prefix}celery-task-meta-{correlation_id}"


def read_document(meta: bytes | str) -> dict[str, Any] | None:
    """Return the result document under a result key; None if something else stands there."""
    try:
        document = from_json(meta)
    except ValueError:
        # It takes less than Python's parser: no half of a surrogate pair.
        try:
            document = json.loads(meta)
        except (ValueError, RecursionError):
            return None
    readable = isinstance(document, dict) and isinstance(document.get("status"), str)
    return document if readable else None


def is_readable(meta: bytes | str | None) -> bool:
    """Whether the result backend knows the job; where it does not, PostgreSQL may."""
    return meta is not None and read_document(meta) is not None


def parse_progress(meta: bytes | str | None) -> dict[str, Any] | None:
    """Return how far an import is (`tasks.imports.run.progress.Progress.to_dict`), None if it is not being done now."""
    document = None if meta is None else read_document(meta)
    if document is None or document["status"] != JobState.PROGRESS:
        return None
    return document["result"] if isinstance(document.get("result"), dict) else None


def parse_result(correlation_id: UUID, meta: bytes | str | None) -> ModelResult | None:
    """Return a finished job's ModelResult, None for a job that is not finished.

    Also a job that Celery ended (a killed worker, a time limit, a revoked job) gets a ModelResult.
    """
    return None if meta is None else result_of(correlation_id, read_document(meta))


def result_of(correlation_id: UUID, document: dict[str, Any] | None) -> ModelResult | None:
    """Return what `parse_result` does; `document` is what `read_document` returned."""
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
    """Return, for the error of reading a result key, what `parse_result` finds unreadable; raise any other error."""
    if not str(error).startswith("WRONGTYPE"):
        raise error
    return b""


def ended_by_celery(result: ModelResult) -> bool:
    """Whether Celery ended the job (killed, timed out, revoked): it may have committed all the same."""
    return not result.success and result.metadata.get("operation") is None


def matches_request(request: str | None, result: ModelResult) -> bool:
    """Whether this is the result of that request, as far as both are known."""
    known = {result.metadata.get("request"), result.metadata.get("canonical_request")} - {None}
    return request is None or not known or not known.isdisjoint(request.split())


def checked_result(correlation_id: UUID, request: str | None, result: ModelResult) -> ModelResult:
    """Return the result, or a `correlation_conflict` if it belongs to another request than the caller's.

    Args:
        correlation_id: the job.
        request: the fingerprint of what the caller asked for, as hexadecimal digits, two where releases
            differ (`storage.fingerprint.fingerprints`); None if it is not known.
        result: what Redis or the ledger has under the correlation id.
    """
    if matches_request(request, result):
        return result
    conflict = CorrelationConflict(correlation_id)
    return _failure(correlation_id, conflict.error_type, str(conflict))


def _failure(correlation_id: UUID, error_type: ErrorType, error: str) -> ModelResult:
    # What the worker never reported is not known: neither the operation nor the duration.
    return ModelResult.failure(error, error_type, correlation_id=correlation_id, operation=None)
