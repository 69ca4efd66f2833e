"""Flower's own list and buttons as ours: dead letters, housekeeping, and a Revoke that is durable."""

import json
from typing import Any
from uuid import uuid4

from celery import Celery
from flower.urls import handlers
from tornado.routing import URLSpec
from tornado.web import RequestHandler

from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.errors import StorageOperationFailed
from tests.fix_pages import Pages
from tests.fix_process import wait_until
from tests.fix_storage import make_pattern

TABLE = "/tasks/datatable?draw=1&start=0&length=99&order[0][column]=0&order[0][dir]=desc&columns[0][data]=received"


def tell(pages: Pages, job: str, *events: dict[str, Any]) -> None:
    """Send events about a job as a worker would."""
    with (
        Celery("teller", broker=pages.redis_url, set_as_current=False) as app,
        app.events.default_dispatcher(hostname="celery@teller") as speak,
    ):
        for event in events:
            speak.send(event.pop("type"), uuid=job, **event)


def listed(pages: Pages, search: str = "") -> dict[str, dict[str, Any]]:
    """The list, as the page asks for it: with POST."""
    answer = pages.visitor("viewer").post(f"{TABLE}&search[value]={search}")
    assert answer.status == 200, answer.text
    return {row["uuid"]: row for row in answer.json["data"]}


def test_a_dead_letter_is_no_failure(pages: Pages) -> None:
    dead, failed = str(uuid4()), str(uuid4())
    for job, metadata in ((dead, {"dead_letter": True}), (failed, {})):
        error = StorageOperationFailed({"error": "no", "metadata": {"error_type": "pool_timeout", **metadata}})
        tell(
            pages, job, {"type": "task-received", "name": "storage.insert"}, {"type": "task-started"},
            {"type": "task-failed", "exception": repr(error)},
        )  # fmt: skip
    rows: Any = wait_until(lambda: len(found := listed(pages, "pool_timeout")) == 2 and found, "Flower hears of both")
    wait_until(lambda: listed(pages)[failed]["state"] == "FAILURE", "one has failed")
    rows = listed(pages)
    assert (rows[dead]["state"], rows[dead]["result"]) == ("DEAD", "pool_timeout: no")
    assert list(listed(pages, "state:DEAD")) == [dead]
    assert list(listed(pages, "state:FAILURE")) == [failed]
    # In the figures of the worker too.
    workers = {worker["hostname"]: worker for worker in pages.visitor("viewer").get("/workers?json=1").json["data"]}
    worker = workers["celery@teller"]
    assert (worker["task-failed"], worker["task-dead"]) == (1, 1)
    # A replay that succeeds ends it.
    tell(pages, dead, {"type": "task-succeeded", "result": "{}", "runtime": 0.1})
    wait_until(lambda: listed(pages)[dead]["state"] == "SUCCESS", "it was replayed")


def test_housekeeping_is_left_out_unless_it_is_searched_for(pages: Pages) -> None:
    ours, kept = str(uuid4()), str(uuid4())
    tell(pages, kept, {"type": "task-received", "name": "maintenance.purge_ledger"})
    tell(pages, ours, {"type": "task-received", "name": "storage.query"})
    wait_until(lambda: ours in listed(pages), "it is listed")
    assert kept not in listed(pages)
    assert list(listed(pages, "maintenance")) == [kept]


def test_revoke_is_durable_and_says_when_it_is_too_late(pages: Pages, pages_client: PatternStorageClient) -> None:
    operator, path = pages.visitor("operator"), "/api/task/revoke"
    job = pages_client.insert(make_pattern())
    answer = operator.post(f"{path}/{job.correlation_id}", terminate="true")
    assert (answer.status, "for good" in answer.json["message"]) == (200, True)
    assert job.status() == "REVOKED"
    assert pages.execute("SELECT state FROM job_ledger WHERE correlation_id = %s", job.correlation_id) == [("REVOKED",)]
    # Again, it is as it was.
    assert operator.post(f"{path}/{job.correlation_id}").status == 200

    ended = uuid4()
    result = json.dumps({"success": True, "data": {}, "error": None, "metadata": {"correlation_id": str(ended)}})
    pages.execute("INSERT INTO job_ledger (correlation_id, result) VALUES (%s, %s)", ended, result)
    answer = operator.post(f"{path}/{ended}")
    assert (answer.status, answer.text) == (409, "The job has ended before: SUCCESS")
    # What is none of the ledger's is Celery's.
    for foreign in ("no-uuid", str(other := uuid4())):
        if foreign != "no-uuid":
            tell(pages, foreign, {"type": "task-received", "name": "another.task"})
            wait_until(lambda: str(other) in listed(pages), "Flower knows its name")
        assert operator.post(f"{path}/{foreign}").json == {"message": f"Revoked '{foreign}'"}
    assert pages.execute("SELECT FROM job_ledger WHERE correlation_id = %s", other) == []


def test_a_viewer_revokes_nothing(pages: Pages, pages_client: PatternStorageClient) -> None:
    job = pages_client.insert(make_pattern())
    tell(pages, str(job.correlation_id), {"type": "task-received", "name": "storage.insert"})
    wait_until(lambda: str(job.correlation_id) in listed(pages), "it is listed")
    page = f"/task/{job.correlation_id}"
    assert "task-revoke" not in pages.visitor("viewer").get(page).text
    assert "task-revoke" in pages.visitor("operator").get(page).text
    assert pages.visitor("viewer").post(f"/api/task/revoke/{job.correlation_id}").status == 403
    assert job.status() == "QUEUED"


#: Whatever Flower's own pages and API let people change.
CHANGES = sorted(
    pattern.removesuffix("$").replace("(.+)", "x")
    for pattern, handler in (
        (each.regex.pattern, each.handler_class) if isinstance(each, URLSpec) else each[:2] for each in handlers
    )
    if handler.post is not RequestHandler.post and pattern.startswith("/")
)


def test_every_control_takes_the_role_that_the_docs_say(pages: Pages) -> None:
    assert {"/api/worker/shutdown/x", "/api/worker/pool/grow/x", "/api/worker/pool/shrink/x",
            "/api/worker/pool/autoscale/x", "/api/worker/pool/restart/x", "/api/worker/queue/add-consumer/x",
            "/api/worker/queue/cancel-consumer/x", "/api/task/rate-limit/x", "/api/task/timeout/x",
            "/api/task/send-task/x", "/api/task/apply/x", "/api/task/async-apply/x", "/api/task/abort/x",
            "/api/task/revoke/x", "/tasks/datatable"} == set(CHANGES)  # fmt: skip
    needed = {"/api/task/revoke/x": "operator", "/tasks/datatable": "viewer"}
    ranks = ("viewer", "operator", "admin")
    for who in ranks:
        visitor = pages.visitor(who)
        for path in CHANGES:
            role = needed.get(path, "admin")
            answer = visitor.post(path)
            refused = answer.status == 403 and f"takes the role {role}" in answer.text
            assert refused == (ranks.index(who) < ranks.index(role)), (who, path, answer)


def test_forged_requests_control_nothing(pages: Pages) -> None:
    """A browser sends an admin's login along with what another site has it ask."""
    admin = pages.visitor("admin")
    for path in CHANGES:
        for headers in ({"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
            for token in (True, False):
                answer = admin.post(path, token, headers)
                assert (answer.status, "takes the role" in answer.text) == (403, False), (path, headers)


def test_an_import_that_runs_can_be_cancelled_on_its_page(pages: Pages) -> None:
    job = str(uuid4())
    tell(pages, job, {"type": "task-received", "name": "imports.run"}, {"type": "task-progress", "current": 5})
    wait_until(lambda: listed(pages).get(job, {}).get("state") == "PROGRESS", "it says how far it is")
    page = pages.visitor("operator").get(f"/task/{job}").text
    assert ">Cancel</button>" in page
    assert f'href="/jobs/{job}">Timeline</a>' in page


def test_a_job_that_flower_has_not_seen_has_our_page(pages: Pages) -> None:
    unseen = uuid4()
    assert pages.visitor("viewer").get(f"/task/{unseen}").text == f"/jobs/{unseen}"
    assert pages.visitor("viewer").get("/task/no-uuid").status == 404
