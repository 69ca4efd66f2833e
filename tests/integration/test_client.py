"""The client: what it sends, what a worker answers, and what it says of a job."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from celery import Celery

from pattern_storage import Job
from pattern_storage.config.settings import SettingsInvalid
from pattern_storage.embedded import EmbeddedValkey
from pattern_storage.storage import ModelContractPatternStorage
from pattern_storage.storage.errors import ContractInvalid, UnsupportedOperation
from pattern_storage.tasks.client import (
    JobTimeout,
    PatternStorageClient,
)
from tests.fix_celery import BLOCKED, StorageWorker, locked_patterns, worker_connections
from tests.fix_process import DEADLINE, wait_until
from tests.fix_servers import Store, messages_on
from tests.fix_storage import contract, make_pattern


class TestOperations:
    """Every method, done by a worker."""

    def test_each_method(self, served_client: PatternStorageClient) -> None:
        client, tag = served_client, str(uuid4())
        inserted = client.insert(make_pattern(tags=[tag])).result(DEADLINE)
        assert inserted.success
        pattern_id = inserted.data["pattern_id"]
        assert client.update(pattern_id, {"usage_count": 3}).result(DEADLINE).data["fields_updated"] == ["usage_count"]
        assert client.update(UUID(pattern_id), {"usage_count": 4}).result(DEADLINE).success
        assert client.batch_insert(make_pattern(tags=[tag]) for _ in range(3)).result(DEADLINE).data["count"] == 3
        found = client.query(tags_any=[tag], limit=10).result(DEADLINE)
        assert sorted(record["usage_count"] for record in found.data["patterns"]) == [0, 0, 0, 4]
        assert client.delete(UUID(pattern_id)).result(DEADLINE).data["pattern_id"] == pattern_id
        assert client.query().result(DEADLINE).success

    def test_chosen_correlation_id(self, served_client: PatternStorageClient) -> None:
        chosen = uuid4()
        job = served_client.insert(make_pattern(), correlation_id=chosen)
        assert job.correlation_id == chosen
        assert repr(job) == f"Job('{chosen}')"
        assert job.result(DEADLINE).metadata["correlation_id"] == str(chosen)
        assert served_client.get(str(chosen)).result(DEADLINE).success

    def test_many(self, served_client: PatternStorageClient) -> None:
        contracts = [contract("insert", data=make_pattern()) for _ in range(40)]
        jobs = served_client.submit_many(iter(contracts))
        results = [job.result(DEADLINE) for job in jobs]
        assert [result.data["pattern_name"] for result in results] == [each.data["pattern_name"] for each in contracts]

    def test_shared_by_threads(self, served_client: PatternStorageClient) -> None:
        def insert(_: int) -> bool:
            return served_client.insert(make_pattern()).result(DEADLINE).success

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(insert, range(40))) == [True] * 40


class TestSending:
    """What is put on the queue, with nobody there to take it."""

    def test_twelve_hundred_keep_their_order(self, client: PatternStorageClient, store: Store) -> None:
        contracts = [contract("insert", data=make_pattern()) for _ in range(1_200)]
        jobs = client.submit_many(contracts)
        sent = [str(each.correlation_id) for each in contracts]
        assert [str(job.correlation_id) for job in jobs] == sent
        assert [message["headers"]["id"] for message in messages_on(store)] == sent
        assert {job.status() for job in jobs[::100]} == {"QUEUED"}

    def test_none(self, client: PatternStorageClient, store: Store) -> None:
        assert client.submit_many([]) == []
        assert store.llen("storage") == 0

    def test_batches_have_a_queue_of_their_own(self, client: PatternStorageClient, store: Store) -> None:
        client.batch_insert([make_pattern()])
        assert (store.llen("storage"), store.llen("batch")) == (0, 1)

    def test_message_shows_a_description(self, client: PatternStorageClient, store: Store) -> None:
        pattern = make_pattern(template_code="def top_secret(): pass")
        client.insert(pattern)
        (message,) = messages_on(store)
        assert message["headers"]["argsrepr"] == f"insert {pattern['pattern_name']} (function/python)"
        assert "top_secret" not in str(message["headers"])
        assert message["content-type"] == "application/json"

    def test_nothing_is_sent_if_one_value_is_wrong(self, client: PatternStorageClient, store: Store) -> None:
        good = contract("insert", data=make_pattern())
        bad = contract("insert", data=make_pattern(confidence_score=2))
        with pytest.raises(ContractInvalid, match=r"^contract 2: confidence_score should be ") as caught:
            client.submit_many([good, good, bad])
        assert caught.value.contract_index == 2
        batch = contract("batch_insert", patterns=[make_pattern(), make_pattern(usage_count=-1)])
        with pytest.raises(ContractInvalid, match=r"^contract 1: Batch insert failed at pattern 1: usage_count"):
            client.submit_many(iter([good, batch]))
        with pytest.raises(ContractInvalid, match=r"^confidence_score should be ") as caught:
            client.submit(bad)
        assert caught.value.contract_index is None
        with pytest.raises(ContractInvalid, match=r"^contract 1: contract should be a ModelContract\w+, got dict$"):
            client.submit_many([good, {"operation": "insert", "data": make_pattern()}])  # type: ignore[list-item]
        assert store.keys() == []
        assert client.get(good.correlation_id).status() == "UNKNOWN"

    @pytest.mark.parametrize(
        ("call", "says"),
        [
            (lambda client: client.insert({"pattern_name": "x"}), "Insert operation missing required fields"),
            (lambda client: client.insert(make_pattern(colour="red")), "colour"),
            (lambda client: client.update(uuid4(), {}), "Update operation requires 'data' field with updates"),
            (lambda client: client.delete("no uuid"), "pattern_id"),
            (lambda client: client.batch_insert([]), "Batch insert operation requires 'patterns' list"),
            (lambda client: client.query(limit=-1), "limit"),
            (lambda client: client.insert(make_pattern(), correlation_id="no uuid"), "correlation_id"),
        ],
    )
    def test_wrong_call_is_refused_at_once(
        self, client: PatternStorageClient, store: Store, call: Callable[[Any], object], says: str
    ) -> None:
        with pytest.raises(ContractInvalid, match=says) as caught:
            call(client)
        assert isinstance(caught.value, ValueError)
        assert store.keys() == []

    def test_unknown_operation_is_refused(self, client: PatternStorageClient, store: Store) -> None:
        with pytest.raises(UnsupportedOperation, match=r"^Unsupported operation: explode$"):
            client.submit(ModelContractPatternStorage(operation="explode"))
        assert store.keys() == []

    def test_celery_variables_of_the_application_are_not_ours(
        self, monkeypatch: pytest.MonkeyPatch, redis_url: str, store: Store
    ) -> None:
        for name in ("CELERY_BROKER_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"):
            monkeypatch.setenv(name, "redis://127.0.0.1:1/5")
        with PatternStorageClient(redis_url=redis_url, connect_timeout=10) as client:
            client.insert(make_pattern())
        assert store.llen("storage") == 1

    def test_nothing_configured(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        for name in ("REDIS_URL", "BROKER_URL", "RESULT_BACKEND_URL", "DATABASE_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATTERN_STORAGE_DATA_DIR", str(tmp_path))
        with pytest.raises(SettingsInvalid, match="REDIS_URL is not set"):
            PatternStorageClient()

    def test_close_closes_every_connection(self, lone_valkey: EmbeddedValkey) -> None:
        with redis.Redis.from_url(lone_valkey.url) as operator:
            with PatternStorageClient(redis_url=lone_valkey.url) as client:
                job = client.insert(make_pattern())
                assert job.status() == "QUEUED"
                assert len(operator.client_list()) > 1
            assert len(operator.client_list()) == 1


class TestStatus:
    """From UNKNOWN to the end."""

    def test_before_a_worker_has_it(self, client: PatternStorageClient) -> None:
        assert client.get(uuid4()).status() == "UNKNOWN"
        assert client.insert(make_pattern()).status() == "QUEUED"

    def test_in_a_worker(self, served_client: PatternStorageClient, worker: StorageWorker) -> None:
        with locked_patterns(worker.database_url):
            job = served_client.insert(make_pattern())
            wait_until(lambda: worker_connections(worker.database_url, BLOCKED), "the job waits for the table")
            wait_until(lambda: job.status() == "STARTED", "it says that it has begun")
        assert job.result(DEADLINE).success
        assert job.status() == "SUCCESS"
        failed = served_client.delete(uuid4())
        assert not failed.result(DEADLINE).success
        assert failed.status() == "FAILURE"

    def test_revoked_before_it_began(
        self, served_client: PatternStorageClient, worker: StorageWorker, plain_app: Celery
    ) -> None:
        cid = uuid4()
        node = worker.hostname()
        plain_app.control.revoke(str(cid), destination=[node], reply=True, timeout=DEADLINE, limit=1)
        job = served_client.insert(make_pattern(), correlation_id=cid)
        assert job.result(DEADLINE).metadata["error_type"] == "revoked"
        assert job.status() == "REVOKED"

    def test_no_result_in_time(self, client: PatternStorageClient) -> None:
        job = client.insert(make_pattern())
        with pytest.raises(JobTimeout) as caught:
            job.result(timeout=0.05)
        assert caught.value.correlation_id == job.correlation_id
        assert caught.value.timeout == 0.05
        assert caught.value.status == "QUEUED"
        assert str(caught.value) == (
            f"job {job.correlation_id} has no result after 0.05 s; its status is QUEUED (the job"
            " goes on; is a worker running? 'pattern-storage doctor' tells)"
        )
        assert isinstance(caught.value, TimeoutError)

    def test_result_that_comes_while_waiting(self, client: PatternStorageClient, store: Store) -> None:
        """Published under the key, as Celery does; first a state that is not the end."""
        job: Job[Any] = client.insert(make_pattern())
        key = f"celery-task-meta-{job.correlation_id}"
        done = {"status": "SUCCESS", "result": {"success": True, "data": 1, "error": None, "metadata": {}}}
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(job.result, DEADLINE)
            wait_until(lambda: dict(store.pubsub_numsub(key)).get(key.encode()), "the client listens")
            store.publish(key, json.dumps({"status": "STARTED", "result": {}}))
            store.publish(key, json.dumps(done))
            assert result.result(DEADLINE).data == 1

    @pytest.mark.parametrize("value", ["no uuid", "", "1234", 1234, None])
    def test_id_that_is_no_uuid(self, client: PatternStorageClient, value: Any) -> None:
        with pytest.raises(ContractInvalid, match="correlation_id must be a UUID, not"):
            client.get(value)
