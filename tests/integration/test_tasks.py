"""The five tasks through a real worker: whoever sends a job, and whatever it is, a result comes back."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from pattern_storage.config.settings import load_settings
from pattern_storage.storage import ModelResult
from pattern_storage.storage.job_details import find_job
from pattern_storage.tasks.client import JobTimeout, PatternStorageClient
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.operate.stored_result import find_stored_result
from tests.fix_celery import StorageWorker
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern

MISSING_ID = "00000000-0000-4000-8000-000000000000"
Send = Callable[..., ModelResult]


@pytest.fixture
def send(plain_app: Celery, served_client: PatternStorageClient) -> Send:
    """Send a job past our client, which would refuse it, and return its result as our client reads it."""

    def send(
        name: str, kwargs: Any, task_id: str | None = None, timeout: float = DEADLINE, **options: Any
    ) -> ModelResult:
        job_id = task_id or str(uuid4())
        plain_app.send_task(name, kwargs=kwargs, task_id=job_id, queue="storage", **options)
        return served_client.get(job_id).result(timeout)

    return send


@pytest.fixture
def meta(worker: StorageWorker) -> Callable[[Any], dict[str, Any]]:
    """Read what stands in Redis under a job's key."""

    def read(task_id: Any) -> dict[str, Any]:
        with redis.Redis.from_url(worker.redis_url) as connection:
            found: dict[str, Any] = json.loads(connection.get(f"celery-task-meta-{task_id}") or "{}")
            return found

    return read


def count(worker: StorageWorker) -> int:
    with psycopg.connect(worker.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM pattern_templates").fetchone()
        assert row
        return int(row[0])


class TestFailures:
    """Each kind of failure comes back as a ModelResult with its error_type."""

    def test_value_that_breaks_a_rule(self, send: Send) -> None:
        result = send("storage.insert", {"contract": {"data": make_pattern(confidence_score=1.5)}})
        assert result.metadata["error_type"] == "validation_error"
        assert "confidence_score" in str(result.error)

    def test_missing_fields(self, send: Send) -> None:
        result = send("storage.insert", {"contract": {"data": {"pattern_name": "alone"}}})
        assert result.metadata["error_type"] == "validation_error"
        assert result.error == "Insert operation missing required fields: ['pattern_type', 'language', 'template_code']"

    def test_duplicate(self, served_client: PatternStorageClient) -> None:
        pattern = make_pattern()
        assert served_client.insert(pattern).result(DEADLINE).success
        result = served_client.insert(pattern).result(DEADLINE)
        assert result.metadata["error_type"] == "unique_violation"
        assert str(result.error).startswith("Pattern already exists: ")

    def test_unknown_parent(self, served_client: PatternStorageClient) -> None:
        result = served_client.insert(make_pattern(parent_pattern_id=MISSING_ID)).result(DEADLINE)
        assert result.metadata["error_type"] == "foreign_key_violation"
        assert str(result.error).startswith("Invalid reference (foreign key violation): ")

    def test_unknown_pattern(self, served_client: PatternStorageClient) -> None:
        jobs = [served_client.update(MISSING_ID, {"category": "x"}), served_client.delete(MISSING_ID)]
        for job, operation in zip(jobs, ("update", "delete"), strict=True):
            result = job.result(DEADLINE)
            assert result.error == f"Pattern not found: {MISSING_ID}"
            assert result.metadata["error_type"] == "validation_error"
            assert result.metadata["operation"] == operation

    def test_batch_with_one_bad_row_writes_nothing(
        self, served_client: PatternStorageClient, worker: StorageWorker
    ) -> None:
        before = count(worker)
        patterns = [make_pattern(), make_pattern(), make_pattern(parent_pattern_id=MISSING_ID), make_pattern()]
        result = served_client.batch_insert(patterns).result(DEADLINE)
        assert str(result.error).startswith("Batch insert failed at pattern 2: ")
        assert result.metadata["failed_index"] == 2
        assert result.metadata["error_type"] == "foreign_key_violation"
        assert count(worker) == before

    def test_operation_that_does_not_exist(self, send: Send) -> None:
        result = send("storage.insert", {"contract": {"operation": "explode", "data": make_pattern()}})
        assert result.error == "operation is 'explode', but the task is storage.insert"
        assert result.metadata["error_type"] == "validation_error"

    def test_operation_of_another_task(self, send: Send) -> None:
        result = send("storage.query", {"contract": {"operation": "delete", "pattern_id": MISSING_ID}})
        assert result.error == "operation is 'delete', but the task is storage.query"

    def test_task_that_does_not_exist(self, send: Send) -> None:
        result = send("storage.explode", {"contract": {}})
        assert result.metadata["error_type"] == "internal_error"
        assert "NotRegistered" in str(result.error)

    def test_another_correlation_id_than_the_task_id(self, send: Send) -> None:
        task_id, other = str(uuid4()), str(uuid4())
        result = send("storage.insert", {"contract": {"correlation_id": other, "data": make_pattern()}}, task_id)
        assert result.error == f"correlation_id is {other}, but the task id is {task_id}: they should be the same text"
        assert result.metadata["correlation_id"] == task_id

    @pytest.mark.parametrize("task_id", [uuid4().hex, str(uuid4()).upper()], ids=["without dashes", "upper case"])
    def test_task_id_in_another_spelling(self, send: Send, meta: Callable[[Any], Any], task_id: str) -> None:
        """Celery stores the result under the text as it is, where nobody who knows the UUID would look."""
        with pytest.raises(JobTimeout):
            send("storage.insert", {"contract": {"data": make_pattern()}}, task_id, timeout=0)
        wait_until(lambda: meta(task_id).get("status") == "FAILURE", "it has ended")
        assert "they should be the same text" in meta(task_id)["result"]["exc_message"][0]["error"]

    def test_task_id_that_is_no_uuid(self, plain_app: Celery, meta: Callable[[Any], dict[str, Any]]) -> None:
        sent = plain_app.send_task(
            "storage.insert", kwargs={"contract": {"data": make_pattern()}}, task_id="job-1", queue="storage"
        )
        with pytest.raises(Exception, match="correlation_id"):
            sent.get(timeout=DEADLINE)
        assert meta("job-1")["result"]["exc_type"] == "StorageOperationFailed"

    @pytest.mark.parametrize("contract", [None, 5, "text", [1], [["data", {}]]])
    def test_contract_that_is_no_object(self, send: Send, contract: Any) -> None:
        result = send("storage.insert", {"contract": contract})
        assert result.error == f"contract should be a JSON object, got {type(contract).__name__}"
        assert result.metadata["error_type"] == "validation_error"

    @pytest.mark.parametrize("kwargs", [{}, {"contract": {}, "extra": 1}, {"kontract": {}}])
    def test_arguments_other_than_contract(self, send: Send, kwargs: dict[str, Any]) -> None:
        result = send("storage.insert", kwargs)
        assert result.metadata["error_type"] == "validation_error"
        assert "contract" in str(result.error)

    def test_positional_argument(self, send: Send) -> None:
        result = send("storage.insert", {}, args=[{"data": make_pattern()}])
        assert result.metadata["error_type"] == "validation_error"

    def test_unknown_field_gets_a_suggestion(self, send: Send) -> None:
        result = send("storage.insert", {"contract": {"dat": make_pattern()}})
        assert result.error == "unknown field 'dat'; did you mean 'data'?"

    def test_nul_and_lone_surrogate(self, send: Send) -> None:
        for text in ("a\0b", "a\ud800b"):
            result = send("storage.insert", {"contract": {"data": make_pattern(pattern_name=text)}})
            assert result.metadata["error_type"] == "validation_error"

    def test_log_has_no_traceback(self, worker: StorageWorker, served_client: PatternStorageClient) -> None:
        job = served_client.delete(MISSING_ID)
        assert not job.result(DEADLINE).success
        worker.assert_log_exists(
            f"storage.delete[{job.correlation_id}] raised expected: StorageOperationFailed(validation_error: "
        )
        said = worker.logs().partition(str(job.correlation_id))[2]
        assert "Traceback" not in said


class TestResultInRedis:
    """Results are Celery's own, so any Celery application can read them."""

    def test_success(
        self, served_client: PatternStorageClient, worker: StorageWorker, meta: Callable[[Any], dict[str, Any]]
    ) -> None:
        job = served_client.insert(make_pattern())
        result = job.result(DEADLINE)
        found = meta(job.correlation_id)
        assert found["status"] == "SUCCESS"
        assert found["task_id"] == str(job.correlation_id)
        assert found["result"] == result.to_dict()
        assert {"traceback", "children", "date_done"} <= found.keys()
        with redis.Redis.from_url(worker.redis_url) as connection:
            assert 0 < connection.ttl(f"celery-task-meta-{job.correlation_id}") <= 86_400

    def test_failure(self, served_client: PatternStorageClient, meta: Callable[[Any], dict[str, Any]]) -> None:
        job = served_client.delete(MISSING_ID)
        result = job.result(DEADLINE)
        found = meta(job.correlation_id)
        assert found["status"] == "FAILURE"
        assert found["result"]["exc_type"] == "StorageOperationFailed"
        assert found["result"]["exc_message"] == [result.to_dict()]

    def test_celerys_async_result(self, served_client: PatternStorageClient, plain_app: Celery) -> None:
        pattern = make_pattern()
        job = served_client.insert(pattern)
        waiting: AsyncResult[Any] = AsyncResult(str(job.correlation_id), app=plain_app)
        assert waiting.get(timeout=DEADLINE)["data"]["pattern_name"] == pattern["pattern_name"]
        assert waiting.state == "SUCCESS"
        failed: AsyncResult[Any] = AsyncResult(str(served_client.insert(pattern).correlation_id), app=plain_app)
        with pytest.raises(StorageOperationFailed, match=r"^unique_violation: Pattern already exists") as caught:
            failed.get(timeout=DEADLINE)
        assert caught.value.result["metadata"]["error_type"] == "unique_violation"
        assert failed.state == "FAILURE"

    def test_link_error_runs_for_a_failed_operation(
        self, plain_app: Celery, served_client: PatternStorageClient
    ) -> None:
        """An error callback of another application gets the failed job's id, in its own queue."""
        task_id = str(uuid4())
        callback = plain_app.signature("elsewhere.on_error", queue=f"elsewhere-{task_id}", immutable=True)
        plain_app.send_task(
            "storage.delete",
            kwargs={"contract": {"pattern_id": MISSING_ID}},
            task_id=task_id,
            queue="storage",
            link_error=callback,
        )
        assert not served_client.get(task_id).result(DEADLINE).success
        with plain_app.connection_for_read() as connection, connection.SimpleQueue(f"elsewhere-{task_id}") as queue:
            assert queue.get(timeout=DEADLINE).headers["task"] == "elsewhere.on_error"


class TestGarbage:
    """A message that is no job ends as a line in the log, never as the end of the worker."""

    def test_pickle_is_refused(self, plain_app: Celery, worker: StorageWorker, send: Send) -> None:
        before = worker.logs().count("ContentDisallowed")
        plain_app.send_task("storage.query", kwargs={"contract": {}}, queue="storage", serializer="pickle")
        assert send("storage.query", {"contract": {}}).success
        wait_until(lambda: worker.logs().count("ContentDisallowed") > before, "the message is refused")

    @pytest.mark.parametrize(
        "body",
        [
            b"garbage",
            b"[]",
            b"null",
            b"[[], {}, {}, {}]",
            b'[[], "text", {}]',
            b'{"a": 1}',
            b'[[], {"contract": {}}, 5]',
        ],
        ids=str,
    )
    def test_body(self, plain_app: Celery, send: Send, body: str) -> None:
        headers = {"task": "storage.query", "id": str(uuid4()), "lang": "py", "argsrepr": "", "kwargsrepr": "{}"}
        with plain_app.connection_for_write() as connection, connection.Producer() as producer:
            producer.publish(
                body,
                headers=headers,
                routing_key="storage",
                exchange="storage",
                content_type="application/json",
                content_encoding="utf-8",
            )
        assert send("storage.query", {"contract": {}}).success

    def test_job_without_an_id(self, plain_app: Celery, send: Send) -> None:
        with plain_app.connection_for_write() as connection, connection.Producer(serializer="json") as producer:
            producer.publish([[], {}, {}], headers={"task": "storage.query"}, routing_key="storage", exchange="storage")
        assert send("storage.query", {"contract": {}}).success

    def test_message_without_headers(self, plain_app: Celery, send: Send) -> None:
        with plain_app.connection_for_write() as connection, connection.Producer(serializer="json") as producer:
            producer.publish({"hello": "world"}, routing_key="storage", exchange="storage")
        assert send("storage.query", {"contract": {}}).success


async def test_the_ways_of_jobs_are_known_after_their_ends(
    served_client: PatternStorageClient, worker: StorageWorker
) -> None:
    """Alone, in a group, failed, a batch: each timeline has when it was claimed, and when its result was stored."""
    pattern = make_pattern()
    jobs: list[Any] = [served_client.insert(pattern)]
    jobs[0].result(DEADLINE)
    jobs += [served_client.insert(pattern), served_client.batch_insert([make_pattern(), make_pattern()])]
    jobs += served_client.submit_many([contract("insert", data=make_pattern()) for _ in range(5)])
    settings = load_settings(database_url=worker.database_url, redis_url=worker.redis_url)
    async with await psycopg.AsyncConnection.connect(worker.database_url, autocommit=True) as connection:
        for job in jobs:
            ended = job.result(DEADLINE)
            found, stored = (
                await find_job(connection, job.correlation_id),
                find_stored_result(settings, job.correlation_id),
            )
            assert found
            assert stored
            assert stored.seconds_left
            whats = [event.what for event in (*found.events, *stored.events)]
            end = "committed" if ended.success else "FAILURE"
            assert whats == ["submitted", "claimed", "started", end, "result stored"]
            # Their clocks are one here; PostgreSQL's times of a transaction have begun to run before it is asked.
            at = [event.at for event in found.events]
            assert at[0] < at[1] < at[3] < stored.events[0].at


def test_nothing_is_measured_unless_asked(worker: StorageWorker) -> None:
    """The shared worker has no port set: it listens nowhere and counts nothing."""
    processes = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
    assert not [one for process in processes for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
