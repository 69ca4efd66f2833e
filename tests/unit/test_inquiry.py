"""What a caller is told, for each thing that Redis and PostgreSQL may say."""

import json
from typing import Any
from uuid import UUID

import pytest

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.client.result_resolver import Inquiry
from pattern_storage.tasks.client.results import marker
from pattern_storage.tasks.errors import JobTimeout

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


def inquiry(request: str | None = MINE, *, database: bool = True) -> Inquiry:
    return Inquiry(CID, request, has_database=database)


@pytest.mark.parametrize("database", [False, True])
@pytest.mark.parametrize("request_", [MINE, None])
@pytest.mark.parametrize("told", [MINE, None])
def test_redis_has_the_answer(database: bool, request_: str | None, told: str | None) -> None:
    asked = inquiry(request_, database=database)
    assert asked.hear(success(result(told))) == result(told)
    assert not asked.wants_database


def test_unknown_to_redis_is_asked_for_once() -> None:
    asked = inquiry()
    assert asked.hear(None) is None
    assert asked.wants_database
    assert asked.learn("UNKNOWN", None) is None
    assert asked.hear(None) is None
    assert not asked.wants_database
    assert asked.learn("SUCCESS", result()) == result()


@pytest.mark.parametrize("status", ["QUEUED", "STARTED", "RETRY"])
def test_an_unfinished_job_asks_postgresql_at_the_end_alone(status: str) -> None:
    asked = inquiry()
    assert asked.hear(marker(status)) is None
    assert not asked.wants_database
    assert asked.wants_last_word(timeout=0)
    assert asked.learn("UNKNOWN", None) is None
    with pytest.raises(JobTimeout, match=f"its status is {status}"):
        asked.end(1.0)


def test_no_second_question_without_time_to_wait() -> None:
    asked = inquiry()
    asked.hear(None)
    asked.learn("QUEUED", None)
    assert not asked.wants_last_word(timeout=0)
    assert asked.wants_last_word(timeout=1)
    with pytest.raises(JobTimeout, match="its status is QUEUED"):
        asked.end(0)


def test_cut_short_and_committed_all_the_same() -> None:
    asked = inquiry()
    assert asked.hear(KILLED) is None
    assert asked.wants_database
    assert asked.learn("SUCCESS", result()) == result()


def test_cut_short_for_good() -> None:
    asked = inquiry()
    asked.hear(KILLED)
    answer = asked.learn("UNKNOWN", None)
    assert answer is not None
    assert answer.metadata["error_type"] == "worker_lost"


def test_another_request_s_outcome_is_nobody_s_answer() -> None:
    asked = inquiry()
    assert asked.hear(success(result(OTHERS))) is None
    assert asked.wants_database
    # Mine is still to come.
    assert asked.learn("UNKNOWN", None) is None
    assert asked.hear(success(result(OTHERS))) is None
    assert asked.learn("SUCCESS", result()) == result()


@pytest.mark.parametrize("database", [False, True])
def test_another_request_s_outcome_for_good(database: bool) -> None:
    asked = inquiry(database=database)
    answer = asked.hear(success(result(OTHERS))) or asked.learn("SUCCESS", result(OTHERS))
    assert answer is not None
    assert (answer.success, answer.metadata["error_type"]) == (False, "correlation_conflict")


def test_another_request_s_outcome_when_time_is_over() -> None:
    asked = inquiry()
    asked.hear(success(result(OTHERS)))
    asked.learn("UNKNOWN", None)
    assert asked.end(1.0).metadata["error_type"] == "correlation_conflict"


def test_without_a_database_nobody_is_asked() -> None:
    asked = inquiry(database=False)
    assert asked.hear(None) is None
    assert not asked.wants_database
    assert not asked.wants_last_word(timeout=1)
    answer = asked.hear(KILLED)
    assert answer is not None
    assert answer.metadata["error_type"] == "worker_lost"
