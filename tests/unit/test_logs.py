"""Log lines as JSON: one object a line, the correlation id in it, and nothing that a person should not see."""

import json
import logging
import re
import sys
from typing import Any

import pytest
from celery.exceptions import ChordError

from pattern_storage.storage.logs import correlated
from pattern_storage.tasks.errors import StorageOperationFailed
from pattern_storage.tasks.observability.logs import JobFilter, formatter


def line(message: str, log_format: str = "json", **fields: Any) -> str:
    record = logging.getLogger("tests.logs").makeRecord(
        "tests.logs", logging.WARNING, __file__, 1, message, (), fields.pop("exc_info", None), extra=fields
    )
    assert JobFilter().filter(record)
    return formatter(log_format).format(record)


def test_fields() -> None:
    with correlated("some-id"):
        logged = json.loads(line('two\nlines, "quoted"', transaction_id="t"))
    assert logged.pop("timestamp").endswith("+00:00")
    assert logged == {
        "level": "WARNING",
        "logger": "tests.logs",
        "process": "MainProcess",
        "correlation_id": "some-id",
        "message": 'two\nlines, "quoted"',
        "transaction_id": "t",
    }


def test_celerys_own_records_have_the_jobs_id_and_keep_its_arguments_to_themselves() -> None:
    about = {"id": "job-id", "args": "[{'template_code': 'secret'}]"}
    assert json.loads(line("Task received", data=about))["correlation_id"] == "job-id"
    assert "secret" not in line("Task received", data=about)
    assert "[job-id] Task received" in line("Task received", "text", data=about)
    assert json.loads(line("data of another kind", data=["no id"]))["correlation_id"] == "-"


def test_a_traceback_is_a_field() -> None:
    try:
        raise ValueError("a bug")
    except ValueError:
        logged = json.loads(line("it failed", exc_info=sys.exc_info()))
    assert "ValueError: a bug" in logged["exc_info"]


def test_a_chord_with_a_failed_part_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    failed = StorageOperationFailed({"error": "no", "metadata": {"error_type": "validation_error"}})
    for error in (ChordError("a part"), failed, TimeoutError("a fault")):
        try:
            raise error
        except Exception as raised:
            logging.getLogger("celery.backends.redis").exception("Chord %r raised: %r", "id", raised)
    assert [record.exc_info is None for record in caplog.records] == [True, True, False]


FORGED = "x\n[2026-01-01 00:00:00,000: INFO/MainProcess] [-] forged\r\x1b[2J\u2028"


def test_nothing_forges_a_line() -> None:
    """Whatever reaches a line: the message, an id out of a message's headers, the text of an error."""
    try:
        raise ValueError(FORGED)
    except ValueError:
        for logged in (
            line(FORGED, "text"),
            line("about a job", "text", data={"id": FORGED}),
            line("it failed", "text", exc_info=sys.exc_info()),
        ):
            first, *rest = re.split(r"[\n\r\u2028\x1b]", logged)
            assert first.startswith("[")
            assert all(each.startswith("  ") for each in rest), rest
            assert "forged" in logged
            assert "\x1b" not in logged
