"""What a worker's log says of Celery's own doings, and what it never says."""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from celery.exceptions import InvalidTaskError
from kombu.exceptions import DecodeError

from tasks.logs import JobFilter

consumer: Any = import_module("celery.worker.consumer.consumer")
SECRET = "def top_secret(): pass"
BODY = f"{SECRET!r} (123b)"
HEADERS = {"id": "the-id", "task": "storage.inser", "kwargsrepr": SECRET}
GARBLED = DecodeError(UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, "invalid"))


@pytest.mark.parametrize(
    ("template", "values", "says"),
    [
        (
            consumer.UNKNOWN_TASK_ERROR,
            (KeyError("storage.inser"), BODY, HEADERS, {}),
            "unregistered task 'storage.inser', id the-id; its body (123 bytes) is not shown",
        ),
        (
            consumer.INVALID_TASK_ERROR,
            (InvalidTaskError("no id"), BODY),
            "invalid message: no id; its body (123 bytes) is not shown",
        ),
        (
            consumer.MESSAGE_DECODE_ERROR,
            (GARBLED, "application/json", "utf-8", repr(HEADERS), BODY),
            "undecodable message (DecodeError, type application/json, encoding utf-8);"
            " its body (123 bytes) is not shown",
        ),
        (consumer.UNKNOWN_FORMAT, (BODY,), "unknown message; its body (? bytes) is not shown"),
        ("Something new about a body: %s", (BODY,), "unknown message; its body (? bytes) is not shown"),
    ],
)
def test_a_body_is_never_logged(
    template: str, values: tuple[Any, ...], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    consumer.logger.error(template, *values)
    assert [record.getMessage() for record in caplog.records] == [f"Received and discarded an {says}"]


def test_what_is_not_about_a_body_is_logged_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    consumer.logger.error(consumer.CONNECTION_ERROR, "redis://", "refused", "again")
    assert caplog.records[0].getMessage().startswith("consumer: Cannot connect to redis://: refused.")


@pytest.fixture
def record() -> Callable[..., logging.LogRecord]:
    """Make a record with these attributes, completed as a worker's handlers do."""

    def make(**attributes: Any) -> logging.LogRecord:
        made = logging.makeLogRecord(attributes)
        assert JobFilter().filter(made)
        return made

    return make


def test_celerys_records_about_a_job_have_its_id(record: Callable[..., Any]) -> None:
    assert record(data={"id": "the-id", "name": "storage.insert"}).correlation_id == "the-id"
    assert record(data={"name": "no job"}).correlation_id == "-"
    assert record().correlation_id == "-"
