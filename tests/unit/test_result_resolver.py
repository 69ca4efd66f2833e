"""ResultResolver: every combination of what Redis and PostgreSQL say."""

import json
from typing import Any
from uuid import UUID

import pytest

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client.result_resolver import ResultResolver
from pattern_storage.tasks.client.status import marker
from pattern_storage.tasks.errors import JobTimeout
from pattern_storage.vocabulary import JobState

CID = UUID("01234567-89ab-4def-8123-456789abcdef")
MINE, OTHERS = "aa", "bb"


def result(request: str | None = MINE) -> ModelResult:
    metadata: dict[str, Any] = {"correlation_id": str(CID), "operation": "insert", "duration_ms": 1.0}
    if request:
        metadata["request"] = request
    return ModelResult(success=True, data={"of": request}, metadata=metadata)


def success(found: ModelResult) -> str:
    return json.dumps({"status": "SUCCESS", "result": found.to_dict()})


KILLED = json.dumps({"status": "FAILURE", "result": {"exc_type": "WorkerLostError", "exc_message": "signal 9"}})


def make_resolver(request: str | None = MINE, *, database: bool = True) -> ResultResolver:
    return ResultResolver(CID, request, has_database=database)


@pytest.mark.parametrize("database", [False, True])
@pytest.mark.parametrize("request_", [MINE, None])
@pytest.mark.parametrize("told", [MINE, None])
def test_redis_has_the_result(database: bool, request_: str | None, told: str | None) -> None:
    resolver = make_resolver(request_, database=database)
    assert resolver.on_result_backend(success(result(told))) == result(told)
    assert not resolver.needs_database


def test_unknown_to_redis_is_looked_up_once() -> None:
    resolver = make_resolver()
    assert resolver.on_result_backend(None) is None
    assert resolver.needs_database
    assert resolver.on_database("UNKNOWN", None) is None
    assert resolver.on_result_backend(None) is None
    assert not resolver.needs_database
    assert resolver.on_database("SUCCESS", result()) == result()


@pytest.mark.parametrize("status", ["QUEUED", "STARTED", "RETRY"])
def test_an_unfinished_job_is_looked_up_at_the_end_only(status: str) -> None:
    resolver = make_resolver()
    assert resolver.on_result_backend(marker(JobState(status))) is None
    assert not resolver.needs_database
    assert resolver.needs_final_lookup(timeout=0)
    assert resolver.on_database("UNKNOWN", None) is None
    with pytest.raises(JobTimeout, match=f"its status is {status}"):
        resolver.on_timeout(1.0)


def test_no_second_lookup_without_time_to_wait() -> None:
    resolver = make_resolver()
    resolver.on_result_backend(None)
    resolver.on_database("QUEUED", None)
    assert not resolver.needs_final_lookup(timeout=0)
    assert resolver.needs_final_lookup(timeout=1)
    with pytest.raises(JobTimeout, match="its status is QUEUED"):
        resolver.on_timeout(0)


def test_ended_by_celery_but_committed() -> None:
    resolver = make_resolver()
    assert resolver.on_result_backend(KILLED) is None
    assert resolver.needs_database
    assert resolver.on_database("SUCCESS", result()) == result()


def test_ended_by_celery() -> None:
    resolver = make_resolver()
    resolver.on_result_backend(KILLED)
    answer = resolver.on_database("UNKNOWN", None)
    assert answer is not None
    assert answer.metadata["error_type"] == "worker_lost"


def test_another_request_s_result_is_not_returned() -> None:
    resolver = make_resolver()
    assert resolver.on_result_backend(success(result(OTHERS))) is None
    assert resolver.needs_database
    # Mine is still to come.
    assert resolver.on_database("UNKNOWN", None) is None
    assert resolver.on_result_backend(success(result(OTHERS))) is None
    assert resolver.on_database("SUCCESS", result()) == result()


@pytest.mark.parametrize("database", [False, True])
def test_another_request_s_final_result_is_a_conflict(database: bool) -> None:
    resolver = make_resolver(database=database)
    answer = resolver.on_result_backend(success(result(OTHERS))) or resolver.on_database("SUCCESS", result(OTHERS))
    assert answer is not None
    assert (answer.success, answer.metadata["error_type"]) == (False, "correlation_conflict")


def test_another_request_s_result_at_the_deadline_is_a_conflict() -> None:
    resolver = make_resolver()
    resolver.on_result_backend(success(result(OTHERS)))
    resolver.on_database("UNKNOWN", None)
    assert resolver.on_timeout(1.0).metadata["error_type"] == "correlation_conflict"


def test_without_a_database_there_is_no_lookup() -> None:
    resolver = make_resolver(database=False)
    assert resolver.on_result_backend(None) is None
    assert not resolver.needs_database
    assert not resolver.needs_final_lookup(timeout=1)
    answer = resolver.on_result_backend(KILLED)
    assert answer is not None
    assert answer.metadata["error_type"] == "worker_lost"


@pytest.mark.parametrize("database", [False, True])
def test_garbage_is_waited_out(database: bool) -> None:
    """The worker's own result replaces it."""
    resolver = make_resolver(database=database)
    assert resolver.on_result_backend(b"not json") is None
    assert resolver.needs_database == database
    if database:
        assert resolver.on_database("UNKNOWN", None) is None
    assert resolver.on_result_backend(b"not json") is None
    assert not resolver.needs_database
    assert resolver.on_result_backend(success(result())) == result()


def test_garbage_until_the_deadline() -> None:
    resolver = make_resolver()
    assert resolver.on_result_backend(b"not json") is None
    assert resolver.on_timeout(1.0).metadata["error_type"] == "unreadable_result"
    assert resolver.on_database("SUCCESS", result()) == result()


def test_a_success_that_is_none_of_ours_is_final() -> None:
    resolver = make_resolver(database=False)
    told = resolver.on_result_backend(json.dumps({"status": "SUCCESS", "result": 5}))
    assert told is not None
    assert told.metadata["error_type"] == "unreadable_result"


def test_a_result_backend_that_refuses_is_no_reason_to_wait() -> None:
    resolver = make_resolver()
    resolver.on_result_backend(marker(JobState.QUEUED))
    assert not resolver.needs_database
    for _ in range(2):
        resolver.backend_refuses = True
        assert resolver.on_result_backend(marker(JobState.QUEUED)) is None
        assert resolver.needs_database
        assert resolver.on_database("QUEUED", None) is None
    assert resolver.on_database("SUCCESS", result()) == result()
    alone = make_resolver(database=False)
    alone.backend_refuses = True
    alone.on_result_backend(marker(JobState.QUEUED))
    assert not alone.needs_database
