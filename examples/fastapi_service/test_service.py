"""The service's own tests: `pytest`, with the servers of the testing kit."""

from uuid import uuid4

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


def test_a_pattern_is_changed_once(inline_jobs: InlineMode) -> None:
    with TestClient(app) as http:
        job = http.post("/patterns", json=make_pattern()).json()["correlation_id"]
        stored = http.get(f"/jobs/{job}").json()["data"]
        # An insert's `created_at` is the first `updated_at`.
        path, seen = f"/patterns/{stored['pattern_id']}", {"expect": stored["created_at"]}
        changed = http.patch(path, params=seen, json={"usage_count": 1})
        assert (changed.status_code, changed.json()["fields_updated"]) == (200, ["usage_count"])
        late = http.patch(path, params=seen, json={"usage_count": 2})
        assert late.status_code == 409
        assert late.json()["detail"]["updated_at"] == changed.json()["updated_at"]
        for body in ({"usage_cont": 2}, {"usage_count": "2"}, {"usage_count": -1}, {}):
            assert http.patch(path, params=seen, json=body).status_code == 422
        assert http.patch(f"/patterns/{uuid4()}", params=seen, json={"usage_count": 2}).status_code == 404


def test_an_order_and_its_job_are_both_or_neither(recorded_jobs: RecordedMode, pattern_storage_database: str) -> None:
    with TestClient(app, raise_server_exceptions=False) as http:
        placed = {"title": "First", "pattern": make_pattern(pattern_name="Ordered")}
        assert http.post("/orders", json=placed).status_code == 202
        recorded_jobs.jobs.assert_enqueued(pattern_name="Ordered", outbox=True, count=1)
        # The title is there already, so the order fails, and its job with it.
        assert http.post("/orders", json=placed).status_code == 500
    assert len(recorded_jobs.jobs) == 1
