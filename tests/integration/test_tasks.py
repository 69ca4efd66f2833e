"""The five tasks through a real worker: results in Redis, garbage on the queue, and the timeline of a job."""

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
from pattern_storage.storage.job_details import find_job
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.operate.stored_result import find_stored_result
from tests.fix_celery import StorageWorker
from tests.fix_client import Send
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import contract, make_pattern

MISSING_ID = "00000000-0000-4000-8000-000000000000"


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
