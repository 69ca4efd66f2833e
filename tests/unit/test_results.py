"""Result documents as a status and a ModelResult."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from pattern_storage.storage import ModelResult, ledger
from pattern_storage.tasks.client.result_document import checked_result, parse_progress, parse_result, result_key
from pattern_storage.tasks.client.status import marker, parse_status
from pattern_storage.vocabulary import JobState
from tests.fix_process import ROOT

CID = uuid4()
GOOD = ModelResult(success=True, data={"a": 1}, metadata={"correlation_id": str(CID)}).to_dict()
BAD = ModelResult(success=False, error="no", metadata={"error_type": "validation_error"}).to_dict()


def meta(status: str, result: Any) -> bytes:
    return json.dumps({"status": status, "result": result, "traceback": None, "children": []}).encode()


def failure(kind: str, message: Any) -> bytes:
    return meta("FAILURE", {"exc_type": kind, "exc_message": message, "exc_module": "somewhere"})


def test_key() -> None:
    assert result_key(UUID(int=1)) == "celery-task-meta-00000000-0000-0000-0000-000000000001"
    assert result_key(UUID(int=1), "a:") == "a:celery-task-meta-00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize("status", ["STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED"])
def test_status(status: str) -> None:
    assert parse_status(meta(status, None)) == status


def test_status_before_a_worker_has_it() -> None:
    assert parse_status(None) == "UNKNOWN"
    assert parse_status(marker(JobState.QUEUED)) == "QUEUED"


@pytest.mark.parametrize(
    "found", [None, marker(JobState.QUEUED), meta("STARTED", {"pid": 1}), meta("RETRY", {"exc_type": "X"})]
)
def test_no_result_yet(found: bytes | None) -> None:
    assert parse_result(CID, found) is None


def test_result() -> None:
    assert parse_result(CID, meta("SUCCESS", GOOD)) == ModelResult.model_validate(GOOD)
    assert parse_result(CID, failure("StorageOperationFailed", [BAD])) == ModelResult.model_validate(BAD)


@pytest.mark.parametrize(
    ("found", "error_type", "error"),
    [
        (meta("REVOKED", {"exc_type": "TaskRevokedError"}), "revoked", "the job was revoked before it was done"),
        (
            failure("WorkerLostError", ["Worker exited prematurely: signal 9 (SIGKILL)", "Job: 1."]),
            "worker_lost",
            "the worker could not finish the job: WorkerLostError:"
            " Worker exited prematurely: signal 9 (SIGKILL) Job: 1.",
        ),
        (
            failure("SoftTimeLimitExceeded", []),
            "time_limit_exceeded",
            "the worker could not finish the job: SoftTimeLimitExceeded: ",
        ),
        (
            failure("TimeLimitExceeded", [300]),
            "time_limit_exceeded",
            "the worker could not finish the job: TimeLimitExceeded: 300",
        ),
        (
            failure("ZeroDivisionError", "division by zero"),
            "internal_error",
            "the worker could not finish the job: ZeroDivisionError: division by zero",
        ),
        (meta("SUCCESS", 5), "unreadable_result", "the result of this SUCCESS job is not one of ours"),
        (meta("SUCCESS", {"a": 1}), "unreadable_result", "the result of this SUCCESS job is not one of ours"),
        (meta("FAILURE", None), "unreadable_result", "the result of this FAILURE job is not one of ours"),
        (meta("FAILURE", {}), "unreadable_result", "the result of this FAILURE job is not one of ours"),
        (
            failure("StorageOperationFailed", []),
            "unreadable_result",
            "the result of this FAILURE job is not one of ours",
        ),
        (
            failure("StorageOperationFailed", ["x"]),
            "unreadable_result",
            "the result of this FAILURE job is not one of ours",
        ),
    ],
)
def test_job_that_celery_ended(found: bytes, error_type: str, error: str) -> None:
    result = parse_result(CID, found)
    assert result is not None
    assert (result.success, result.data, result.error) == (False, None, error)
    assert result.metadata == {
        "correlation_id": str(CID),
        "operation": None,
        "duration_ms": None,
        "error_type": error_type,
    }


GARBAGE = [
    b"", b"not json", b"\xff\xfe", b"null", b"5", b"[]", b"{}", b'"SUCCESS"', b'{"status": 5}', b'{"result": 1}',
    b'{"status": null, "result": null}', b'{"status": []}', b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("found", GARBAGE)
def test_garbage(found: bytes) -> None:
    assert parse_status(found) == "FAILURE"
    assert parse_progress(found) is None
    result = parse_result(CID, found)
    assert result is not None
    assert result.metadata["error_type"] == "unreadable_result"


WRONG: list[Any] = [None, 5, "x", [], ["x"], {}, {"exc_type": 5}, {"exc_type": None, "exc_message": 5}, {"metadata": 5}]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "PROGRESS"])
def test_results_of_a_wrong_type(status: str, value: Any) -> None:
    found = meta(status, value)
    assert parse_status(found) == status
    result = parse_result(CID, found)
    assert (result is None) == (status == "PROGRESS")
    assert result is None or result.metadata["error_type"] == "unreadable_result"
    assert parse_progress(found) == (value if status == "PROGRESS" and isinstance(value, dict) else None)


def test_a_result_without_its_correlation_id() -> None:
    """As another application may write it; the conflict is the caller's job's all the same."""
    foreign = ModelResult(success=True, metadata={"request": "other"})
    assert checked_result(CID, "mine", foreign).metadata["correlation_id"] == str(CID)


def test_the_keys_are_always_there_and_docs_name_the_results_without_an_operation() -> None:
    conflict = checked_result(CID, "mine", ModelResult(success=True, metadata={"request": "other"}))
    found = [
        ledger._revoked(CID), conflict, parse_result(CID, b""), parse_result(CID, failure("WorkerLostError", [])),
        parse_result(CID, failure("TimeLimitExceeded", [1])),
    ]  # fmt: skip
    rows = (ROOT / "docs/names.md").read_text().splitlines()
    [row] = (row for row in rows if row.startswith("| `correlation_id`, `operation`, `duration_ms` | always |"))
    for result in found:
        assert result is not None
        assert result.metadata.keys() >= {"correlation_id", "operation", "duration_ms", "error_type"}
        assert result.metadata["operation"] is None
        assert f"`{result.metadata['error_type']}`" in row.split("The operation is None")[1]
