"""Jobs that fail in a real worker, whoever sends them: a result comes back that says why."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from pattern_storage.tasks.client import JobTimeout, PatternStorageClient
from tests.fix_celery import StorageWorker
from tests.fix_client import Send
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import count_patterns, make_pattern

MISSING_ID = "00000000-0000-4000-8000-000000000000"


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
        before = count_patterns(worker.database_url)
        patterns = [make_pattern(), make_pattern(), make_pattern(parent_pattern_id=MISSING_ID), make_pattern()]
        result = served_client.batch_insert(patterns).result(DEADLINE)
        assert str(result.error).startswith("Batch insert failed at pattern 2: ")
        assert result.metadata["failed_index"] == 2
        assert result.metadata["error_type"] == "foreign_key_violation"
        assert count_patterns(worker.database_url) == before

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
