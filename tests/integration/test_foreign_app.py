"""Applications that know nothing of our code, and what people who watch the workers see of their jobs."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import BLOCKED, StorageWorker, locked_patterns, worker_connections
from tests.fix_events import EventOf, listening
from tests.fix_process import DEADLINE, ROOT, clean_environment, wait_until
from tests.fix_storage import make_pattern

SECRET = "def top_secret(): pass"

PROGRAM = """
    import json, sys
    sys.path[:] = [sys.argv[1]] + [path for path in sys.path if path != sys.argv[2]]
    import config, storage, tasks, tasks.errors
    assert {module.MINE for module in (config, storage, tasks, tasks.errors)} == {"theirs"}
    from celery import Celery
    from celery.result import AsyncResult

    app = Celery("theirs", broker=sys.argv[3], backend=sys.argv[3])
    cid, name, contract = sys.argv[4], sys.argv[5], json.loads(sys.argv[6])
    app.send_task(name, kwargs={"contract": contract}, task_id=cid, queue="storage")
    try:
        print(json.dumps(AsyncResult(cid).get(timeout=60)))
    except Exception as error:
        print(json.dumps({"kind": type(error).__name__, "text": str(error), "first": error.args[0]}))
"""


@pytest.fixture
def foreign(tmp_path: Path, worker: StorageWorker) -> Callable[[str, str, dict[str, Any]], Any]:
    """Run another application with packages of its own called tasks, storage and config; return what it printed."""
    for package in ("tasks", "storage", "config"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("MINE = 'theirs'\n")
    (tmp_path / "tasks" / "errors.py").write_text("MINE = 'theirs'\n")
    (tmp_path / "main.py").write_text(dedent(PROGRAM))

    def run(cid: str, name: str, contract: dict[str, Any]) -> Any:
        arguments = [tmp_path, ROOT, worker.redis_url, cid, name, json.dumps(contract)]
        done = subprocess.run(
            [sys.executable, "-I", "main.py", *map(str, arguments)],
            cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_foreign_application_stores_a_pattern(foreign: Callable[..., Any], served_client: PatternStorageClient) -> None:
    cid = str(uuid4())
    pattern = make_pattern()
    printed = foreign(cid, "storage.insert", {"data": pattern})
    assert printed["success"]
    assert printed["data"]["pattern_name"] == pattern["pattern_name"]
    assert served_client.get(cid).result(DEADLINE).to_dict() == printed


def test_foreign_application_gets_the_whole_result_of_a_failure(foreign: Callable[..., Any]) -> None:
    """The exception is a class of our name that Celery makes up; its argument is the ModelResult."""
    cid = str(uuid4())
    printed = foreign(cid, "storage.delete", {"pattern_id": cid})
    assert printed["kind"] == "StorageOperationFailed"
    assert f"Pattern not found: {cid}" in printed["text"]
    assert printed["first"]["metadata"]["error_type"] == "validation_error"
    assert printed["first"]["metadata"]["correlation_id"] == cid


def test_a_job_with_a_link_calls_it(plain_app: Celery, served_client: PatternStorageClient) -> None:
    first, second = uuid4(), uuid4()
    options: dict[str, Any] = {"queue": "storage", "immutable": True}
    calls = [
        plain_app.signature(
            "storage.insert", kwargs={"contract": {"data": make_pattern()}}, task_id=str(cid), **options
        )
        for cid in (first, second)
    ]
    calls[0].apply_async(link=calls[1])
    for cid in (first, second):
        assert served_client.get(cid).result(DEADLINE).success


def test_a_link_without_a_queue_is_kept(
    plain_app: Celery, served_client: PatternStorageClient, worker: StorageWorker
) -> None:
    """Our worker sends it to its own default queue; with a queue it reaches the application."""
    insert = plain_app.signature("storage.insert", kwargs={"contract": {"data": make_pattern()}}, queue="storage")
    after = plain_app.signature("theirs.after", args=("linked",))
    lost, failed = uuid4(), uuid4()
    with plain_app.connection_for_read() as connection, redis.Redis.from_url(worker.redis_url) as server:
        server.delete("storage.unreadable")
        theirs = connection.SimpleQueue("theirs")

        def received() -> Any:
            message = theirs.get(timeout=DEADLINE)
            message.ack()
            assert message.headers["task"] == "theirs.after"
            return message

        insert.apply_async(link=[after.clone().set(task_id=str(lost)), after.clone().set(queue="theirs")])
        assert received().payload[0][0]["success"]
        worker.assert_log_exists(
            f"refused message theirs.after[{lost}]: no task 'theirs.after' is registered here; a link or callback to a"
            ' task of your application needs your queue, as in after.s().set(queue="celery"); kept in the Redis list'
            " storage.unreadable"
        )
        assert "NotRegistered" in str(served_client.get(lost).result(DEADLINE).error)
        # As docs/errors.md says.
        server.lmove("storage.unreadable", "theirs", "RIGHT", "LEFT")
        assert received().headers["id"] == str(lost)
        # Now the pattern is there already.
        insert.apply_async(task_id=str(failed), link_error=after.clone().set(queue="theirs"))
        assert received().payload[0] == [str(failed), "linked"]
    assert "KeyError: 'theirs.after'" not in worker.logs()


@pytest.fixture(scope="module")
def event(worker: StorageWorker) -> Iterator[EventOf]:
    """Receive the shared worker's events; wait for one of a kind and job with `event("task-received", id)`."""
    with listening(worker.redis_url) as event:
        yield event


def test_events_describe_a_job_of_our_client(event: EventOf, served_client: PatternStorageClient) -> None:
    pattern = make_pattern(template_code=SECRET)
    job = served_client.insert(pattern)
    assert job.result(DEADLINE).success
    seen = event("task-received", job.correlation_id)
    assert seen["args"] == f"insert {pattern['pattern_name']} (function/python)"
    assert SECRET not in str(seen)
    assert SECRET not in str(event("task-succeeded", job.correlation_id))


def test_events_describe_a_job_of_another_application(event: EventOf, plain_app: Celery, worker: StorageWorker) -> None:
    pattern = make_pattern(template_code=SECRET)
    cid = str(uuid4())
    plain_app.send_task("storage.insert", kwargs={"contract": {"data": pattern}}, task_id=cid, queue="storage")
    seen = event("task-received", cid)
    assert seen["args"] == f"insert {pattern['pattern_name']} (function/python)"
    assert SECRET not in str(seen)
    assert SECRET not in str(event("task-succeeded", cid))
    worker.assert_log_exists(f"storage.insert[{cid}] succeeded")
    assert SECRET not in worker.logs()


def test_event_and_log_of_a_query_never_come_to_the_template(
    event: EventOf, served_client: PatternStorageClient, worker: StorageWorker
) -> None:
    # The shortest names there can be bring the code nearest to the beginning.
    pattern = make_pattern(pattern_name="n", pattern_type="q", language="l", template_code=SECRET)
    assert served_client.insert(pattern).result(DEADLINE).success
    job = served_client.query(pattern_type="q")
    assert job.result(DEADLINE).data["patterns"][0]["template_code"] == SECRET
    assert "top_secret" not in str(event("task-succeeded", job.correlation_id))
    worker.assert_log_exists(f"storage.query[{job.correlation_id}] succeeded")
    assert "top_secret" not in worker.logs()


def test_failed_event_names_the_error(event: EventOf, served_client: PatternStorageClient) -> None:
    job = served_client.insert(make_pattern(template_code=SECRET, parent_pattern_id=str(uuid4())))
    assert not job.result(DEADLINE).success
    failed = event("task-failed", job.correlation_id)
    assert failed["exception"].startswith("StorageOperationFailed(foreign_key_violation: Invalid reference")
    assert SECRET not in str(failed)


def test_running_jobs_are_described(
    plain_app: Celery, worker: StorageWorker, served_client: PatternStorageClient
) -> None:
    ours = make_pattern(template_code=SECRET)
    theirs = make_pattern(template_code=SECRET)
    cid = str(uuid4())
    with locked_patterns(worker.database_url):
        job = served_client.insert(ours)
        plain_app.send_task("storage.insert", kwargs={"contract": {"data": theirs}}, task_id=cid, queue="storage")
        wait_until(lambda: len(worker_connections(worker.database_url, BLOCKED)) == 2, "both jobs run")
        node = worker.hostname()

        def active() -> list[Any]:
            answer = plain_app.control.inspect([node], timeout=DEADLINE, limit=1).active() or {}
            return list(answer.get(node, []))

        # The pool processes tell the main process after they have begun.
        found = wait_until(lambda: len(both := active()) == 2 and both, "the main process knows of both")
        described: dict[str, Any] = {entry["id"]: entry["args"] for entry in found}
        assert SECRET not in str(found)
    assert described == {
        str(job.correlation_id): f"insert {ours['pattern_name']} (function/python)",
        cid: f"insert {theirs['pattern_name']} (function/python)",
    }
    assert job.result(DEADLINE).success
    assert served_client.get(cid).result(DEADLINE).success


def test_messages_that_are_no_jobs_are_logged_without_their_bodies(plain_app: Celery, worker: StorageWorker) -> None:
    contract = {"data": make_pattern(template_code=SECRET)}
    misspelt, shapeless, garbled, late = (str(uuid4()) for _ in range(4))
    plain_app.send_task("storage.inser", kwargs={"contract": contract}, task_id=misspelt, queue="storage")
    worker.assert_log_exists(f"refused message storage.inser[{misspelt}]: no task 'storage.inser' is registered here; ")
    with plain_app.producer_or_acquire() as producer:
        headers = {"task": "storage.insert", "lang": "py"}
        producer.publish({"contract": contract}, routing_key="storage", headers=headers | {"id": shapeless})
        garbled_body = {"body": f'{{"{SECRET}', "content_type": "application/json", "content_encoding": "utf-8"}
        producer.publish(routing_key="storage", headers=headers | {"id": garbled}, **garbled_body)
        # One that only the pool process decodes.
        garbled_body["body"] = f'["{SECRET}'
        producer.publish(routing_key="storage", headers=headers | {"id": late}, **garbled_body)
        producer.publish({"contract": contract}, routing_key="storage", serializer="json")
    worker.assert_log_exists(f"refused message storage.insert[{shapeless}]: body")
    for one in (garbled, late):
        worker.assert_log_exists(
            f"refused message storage.insert[{one}]: its body cannot be decoded (JSONDecodeError); kept"
        )
    worker.assert_log_exists("refused message ?[?]: task: Field required; kept in the Redis list storage.unreadable")
    assert "top_secret" not in worker.logs()
