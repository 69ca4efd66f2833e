"""The service's own tests: `pytest`, with the servers of the testing kit."""

from fastapi.testclient import TestClient
from service import app

from pattern_storage.testing import InlineMode, RecordedMode, make_pattern


def test_a_pattern_is_enqueued(recorded_jobs: RecordedMode) -> None:
    with TestClient(app) as http:
        answer = http.post("/patterns", json=make_pattern(pattern_name="Visitor"))
    assert answer.status_code == 202
    recorded_jobs.jobs.assert_enqueued(
        operation="insert", pattern_name="Visitor", correlation_id=answer.json()["correlation_id"]
    )


def test_a_wrong_value_is_said_to_the_caller(recorded_jobs: RecordedMode) -> None:
    with TestClient(app) as http:
        answer = http.post("/patterns", json=make_pattern(confidence_score=2))
    assert (answer.status_code, "confidence_score" in answer.text) == (422, True)
    recorded_jobs.jobs.assert_not_enqueued()


def test_a_job_that_is_not_done(recorded_jobs: RecordedMode) -> None:
    with TestClient(app) as http:
        job = http.post("/patterns", json=make_pattern()).json()["correlation_id"]
        assert http.get(f"/jobs/{job}").status_code == 404
        recorded_jobs.answer("insert", {"pattern_id": "7"})
        assert http.get(f"/jobs/{job}").json()["data"] == {"pattern_id": "7"}


def test_a_pattern_is_stored_and_found(inline_jobs: InlineMode) -> None:
    with TestClient(app) as http:
        job = http.post("/patterns", json=make_pattern(pattern_name="Visitor")).json()["correlation_id"]
        assert http.get(f"/jobs/{job}").json()["success"]
        assert [one["pattern_name"] for one in http.get("/patterns?name_contains=visit").json()] == ["Visitor"]
        assert http.get("/patterns?name_contains=").status_code == 422
