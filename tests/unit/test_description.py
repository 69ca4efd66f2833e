"""One short line for people, whatever came over the wire."""

from typing import Any

import pytest

from pattern_storage.tasks.description import MAX_LENGTH, describe_call, describe_contract

CODE = "def top_secret(): pass"
PATTERN = {"pattern_name": "Cache", "pattern_type": "code", "language": "python", "template_code": CODE}


@pytest.mark.parametrize(
    ("operation", "contract", "line"),
    [
        ("insert", {"data": PATTERN}, "insert Cache (code/python)"),
        (
            "update",
            {"pattern_id": "1", "data": {"category": 1, "template_code": CODE}},
            "update 1 (category, template_code)",
        ),
        ("delete", {"pattern_id": "1"}, "delete 1"),
        ("batch_insert", {"patterns": [PATTERN, PATTERN]}, "batch_insert 2 patterns, first Cache (code/python)"),
        ("query", {"query_params": {"language": "python", "limit": 5}}, "query language=python limit=5"),
        ("query", {"query_params": {}}, "query everything"),
        ("query", {"query_params": {"cursor": "abc"}}, "query everything"),
        ("query", {}, "query everything"),
        ("insert", {}, "insert an unnamed pattern"),
        ("insert", {"data": ["Cache"]}, "insert an unnamed pattern"),
        ("insert", {"data": {}}, "insert None (None/None)"),
        ("update", {"pattern_id": "1"}, "update 1 (nothing)"),
        ("update", {"data": "text"}, "update None (nothing)"),
        ("batch_insert", {}, "batch_insert 0 patterns"),
        ("batch_insert", {"patterns": {"a": 1}}, "batch_insert 0 patterns"),
        ("batch_insert", {"patterns": [None]}, "batch_insert 1 patterns, first an unnamed pattern"),
        ("explode", {"pattern_id": 5}, "explode 5"),
    ],
)
def test_line(operation: str, contract: dict[str, Any], line: str) -> None:
    assert describe_contract(operation, contract) == line
    assert CODE not in line


def test_a_task_of_beat_or_of_another_application_is_its_name() -> None:
    assert describe_call("maintenance.sweep_outbox", {}) == "maintenance.sweep_outbox"
    assert describe_call("storage.insert", {}) == "insert, contract missing"


def test_long_line_is_cut() -> None:
    line = describe_contract("insert", {"data": PATTERN | {"pattern_name": "x" * 1_000}})
    assert len(line) == MAX_LENGTH
    assert line.endswith("x…")
    just = "x" * (MAX_LENGTH - len("insert  (code/python)"))
    assert describe_contract("insert", {"data": PATTERN | {"pattern_name": just}}) == f"insert {just} (code/python)"


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", "a\x1b[31mb", "a\u2028b", "a\ud800b", "a\0b"])
def test_nothing_forges_a_line_of_the_log(name: str) -> None:
    line = describe_contract("insert", {"data": PATTERN | {"pattern_name": name}})
    assert line.isprintable()
    assert line.startswith("insert a")
    assert line.endswith("b (code/python)")
