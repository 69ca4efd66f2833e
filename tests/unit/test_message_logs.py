"""What a worker's log says of messages that are no jobs, and what it never says."""

from importlib import import_module
from typing import Any

import pytest
from celery.exceptions import InvalidTaskError
from kombu.exceptions import DecodeError

from pattern_storage import app

consumer: Any = import_module("celery.worker.consumer.consumer")
SECRET = "def top_secret(): pass"
BODY = f"{SECRET!r} (123b)"
HEADERS = {"id": "the-id", "task": "storage.inser", "kwargsrepr": SECRET}
assert app  # importing it is what makes the log discreet
GARBLED = DecodeError(UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, "invalid"))


@pytest.mark.parametrize(
    ("template", "values", "says"),
    [
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
        (
            consumer.UNKNOWN_TASK_ERROR,
            (KeyError("storage.inser"), BODY, HEADERS, {}),
            "unknown message; its body (? bytes) is not shown",
        ),
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
