"""Flower as operators have it: real jobs, and nothing that it should keep to itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psutil
import pytest
from celery import Celery

from pattern_storage.tasks.client import Job, PatternStorageClient
from tests.fix_celery import StorageWorker
from tests.fix_cli import Cli, Said
from tests.fix_flower import PASSWORD, Flower
from tests.fix_pages import Visitor
from tests.fix_process import run_python, wait_until
from tests.fix_storage import contract, make_pattern

TEMPLATE = "def a_template_that_nobody_shows(): ..."
PAGES = ("/", "/workers?json=1", "/tasks", "/broker", "/metrics", "/api/workers", "/api/tasks", "/api/task/types")
CONTROL = (
    "worker/shutdown/x",
    "worker/pool/grow/x",
    "task/revoke/x",
    "task/send-task/storage.insert",
    "task/timeout/x",
)


def template(**changes: Any) -> Any:
    return make_pattern(template_code=TEMPLATE, **changes)


@pytest.fixture(scope="module")
def ends(flower: Flower, worker: StorageWorker) -> dict[str, UUID]:
    """Jobs that have ended in each way, by how."""
    pattern = template()
    with PatternStorageClient(redis_url=worker.redis_url, database_url=worker.database_url) as client:
        jobs: dict[str, Job] = {"succeeded": client.insert(pattern)}
        assert jobs["succeeded"].result(timeout=30).success
        jobs |= {"failed": client.insert(pattern), "query": client.query(pattern_name=pattern["pattern_name"])}
        never = contract("insert", data=template())
        client.get(never.correlation_id).cancel()
        jobs["revoked"] = client.submit(never)
        for job in jobs.values():
            job.result(timeout=30)
    return {how: job.correlation_id for how, job in jobs.items()}


def test_each_end_of_a_job(flower: Flower, worker: StorageWorker, ends: dict[str, UUID]) -> None:
    job = flower.job(ends["succeeded"], "SUCCESS")
    assert job["name"] == "storage.insert"
    assert job["args"].startswith("insert pattern ")
    assert job["args"].endswith(" (function/python)")
    assert job["result"].startswith("pattern ")
    assert job["received"] <= job["started"] <= job["succeeded"]
    assert job["runtime"] > 0
    assert (job["routing_key"], job["worker"]) == ("storage", worker.hostname())

    job = flower.job(ends["failed"], "FAILURE")
    assert job["exception"].startswith("unique_violation: Pattern already exists: ")
    assert flower.job(ends["revoked"], "REVOKED")["result"] == "cancelled"
    assert flower.job(ends["query"], "SUCCESS")["result"] == "done"
    # By its correlation id, as in the search field of the page.
    assert list(flower.ask(f"/api/tasks?search={ends['failed']}").json) == [str(ends["failed"])]


def test_progress_is_heard(flower: Flower, plain_app: Celery) -> None:
    """A task says it with `self.send_event("task-progress", current=..., total=..., rate=...)`."""
    job = str(uuid4())
    with plain_app.events.default_dispatcher(hostname="celery@imports") as dispatcher:
        dispatcher.send("task-progress", uuid=job, current=1_200, total=5_000, rate=830.4)
    assert flower.job(job, "PROGRESS")["progress"] == "1,200 of 5,000 (24 %), 830/s"
    page = flower.ask(f"/task/{job}").text
    assert "Progress" in page
    assert "1,200 of 5,000 (24 %), 830/s" in page


def test_nothing_without_login(flower: Flower, ends: dict[str, UUID]) -> None:
    paths = [*PAGES, *(f"/{kind}/{ends['failed']}" for kind in ("task", "api/task/info", "api/task/result"))]
    for path in paths:
        for login in (None, "admin:wrong", "admin:", f"other:{PASSWORD}", "", PASSWORD):
            answer = flower.ask(path, login=login)
            assert (answer.status, str(ends["failed"]) in answer.text) == (401, False), (path, login)
        assert flower.ask(path).status in {200, 403}, path
    for path in CONTROL:
        assert flower.ask(f"/api/{path}", login=None, data=b"").status == 401
    assert flower.ask("/tasks/datatable?draw=1&start=0&length=9&order[0][column]=0", login=None).status == 401
    # A health check needs no password, and says nothing.
    assert flower.ask("/healthcheck", login=None).text == "OK"


def test_nothing_secret_shows(flower: Flower, worker: StorageWorker, plain_app: Celery, ends: dict[str, UUID]) -> None:
    # A producer that knows nothing of ours puts all it sends into the message's headers, and into an event.
    plain_app.conf.task_send_sent_event = True
    pattern = template()
    good, bad = {"contract": {"data": pattern}}, {"contract": {"data": TEMPLATE}, "more": TEMPLATE}
    sent: dict[str, dict[str, Any]] = {str(uuid4()): kwargs for kwargs in (good, good, bad)}
    foreign = list(sent)
    for job, kwargs in sent.items():
        plain_app.send_task("storage.insert", kwargs=kwargs, task_id=job, queue="storage")
        plain_app.AsyncResult(job).get(timeout=30, propagate=False)
    # Flower itself sends what a person with the login asks it to.
    order = {"kwargs": {"contract": {"data": template()}}}
    sent_by_flower = flower.ask("/api/task/send-task/storage.insert", data=json.dumps(order).encode()).json["task-id"]
    foreign.append(sent_by_flower)
    flower.job(sent_by_flower, "SUCCESS")

    asked = str(uuid4())
    params = {"query_params": {"pattern_name": pattern["pattern_name"]}}
    plain_app.send_task("storage.query", kwargs={"contract": params}, task_id=asked, queue="storage")
    result: Any = plain_app.AsyncResult(asked).get(timeout=30)
    assert result["data"]["patterns"][0]["template_code"] == TEMPLATE

    flower.job(asked, "SUCCESS")
    assert "insert pattern " in wait_until(lambda: flower.job(foreign[0], "SUCCESS")["args"], "it is described")
    worker_pages = [f"/worker/{worker.hostname()}", "/api/workers?refresh=1", "/broker", "/api/queues/length"]
    jobs = [f"/{kind}/{job}" for kind in ("task", "api/task/info") for job in (*foreign, asked, *ends.values())]
    table = "/tasks/datatable?draw=1&start=0&length=99&order[0][column]=0"
    worker_page(flower, worker)
    shown = {path: flower.ask(path) for path in (*PAGES, *worker_pages, *jobs, table)}
    assert {answer.status for answer in shown.values()} == {200}
    assert asked in shown[table].text
    assert "broker_url" in shown[worker_pages[0]].text

    secrets = {TEMPLATE, PASSWORD, *(urlsplit(url).password or "-" for url in (worker.redis_url, worker.database_url))}
    flower.remembers()
    files = [flower.group.text(), *(path.read_bytes().decode(errors="replace") for path in flower.files())]
    command = " ".join(psutil.Process(flower.group.process.pid).cmdline())
    for secret in secrets:
        assert not [path for path, answer in shown.items() if secret in answer.text], secret
        assert not any(secret in text for text in (*files, command)), secret


@pytest.mark.parametrize("kind", ["result", "apply", "abort"])
def test_results_are_not_handed_out(flower: Flower, ends: dict[str, UUID], kind: str) -> None:
    path = f"/api/task/{kind}/{'storage.query' if kind == 'apply' else ends['query']}"
    answer = flower.ask(path, data=None if kind == "result" else b"{}")
    assert answer.status == 403
    assert "pattern-storage result ID" in answer.text
    assert flower.job(ends["query"], "SUCCESS")


def test_it_hears_other_origins_only_with_login(flower: Flower) -> None:
    answer = flower.ask("/api/task/revoke/x", data=b"", Origin="http://elsewhere.example")
    assert answer.status == 403


@pytest.fixture
def other(worker: StorageWorker, tmp_path: Path) -> Iterator[Flower]:
    """A Flower that only shows."""
    running = Flower(worker, tmp_path, PATTERN_STORAGE_FLOWER_READ_ONLY="true")
    yield running.ready()
    running.group.discard()


def worker_page(flower: Flower, worker: StorageWorker) -> str:
    """Return the page of the worker once it has told Flower about itself."""
    path = f"/worker/{worker.hostname()}"
    wait_until(lambda: flower.ask(path).status == 200, f"Flower has {path}")
    return flower.ask(path).text


def test_read_only(other: Flower, flower: Flower, worker: StorageWorker) -> None:
    for path in CONTROL:
        answer = other.ask(f"/api/{path}", data=b"")
        assert (answer.status, "Read only" in answer.text) == (403, True), path
    admin = Visitor(f"http://127.0.0.1:{other.port}", f"admin:{PASSWORD}")
    assert "/queues/pause" not in admin.get("/queues").text
    for answer in (admin.get("/queues/pause", name="batch"), admin.post("/queues/pause", True, None, name="batch")):
        assert (answer.status, "Read only" in answer.text) == (403, True)
    assert "worker-shutdown" in worker_page(flower, worker)
    assert "worker-shutdown" not in worker_page(other, worker)


def test_health(flower: Flower, cli: Cli, absent_url: str) -> None:
    """Its own /healthcheck knows neither whether its login works, nor whether its broker is there."""
    given: dict[str, Any] = dict(flower.variables)
    del given["DATABASE_URL"], given["FLOWER_PORT"]
    assert cli("health", "flower", **given) == Said(0, "ok\n", "")
    said = cli("health", "flower", **given | {"PATTERN_STORAGE_FLOWER_PASSWORD": "another-password"})
    assert (said.code, "401" in said.error) == (1, True)
    assert cli("health", "flower", **given | {"REDIS_URL": absent_url}).code == 3
    # Where nobody has told it a login, Flower is up if it asks for one.
    del given["PATTERN_STORAGE_FLOWER_PASSWORD"]
    assert cli("health", "flower", **given).code == 0


def test_it_does_not_start_without_a_password() -> None:
    done = run_python("-m", "celery", "-A", "pattern_storage", "flower", REDIS_URL="redis://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "PATTERN_STORAGE_FLOWER_PASSWORD is not set; Flower is only for users who log in" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_behind_a_url_prefix(worker: StorageWorker, tmp_path: Path, cli: Cli) -> None:
    running = Flower(worker, tmp_path, PATTERN_STORAGE_FLOWER_URL_PREFIX="/tools/flower")
    variables: dict[str, Any] = dict(running.variables)
    try:

        def answers() -> bool:
            assert running.group.status == "running", running.group.text()
            return cli("health", "flower", **variables).code == 0

        wait_until(answers, "health finds it there")
        assert running.ask("/tools/flower/api/tasks").status == 200
        # What our handlers refuse, they refuse there too.
        assert running.ask(f"/tools/flower/api/task/result/{uuid4()}").status == 403
        assert running.ask("/api/tasks").status == 404
    finally:
        running.group.discard()
