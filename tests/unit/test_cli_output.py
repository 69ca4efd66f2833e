"""Results and JSON: nothing is cut, nothing is taken for markup, and JSON is JSON."""

import json
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from pattern_storage.storage import ModelResult
from pattern_storage.tasks.cli.output import print_json
from pattern_storage.tasks.cli.results import print_result
from pattern_storage.tasks.cli.tables import print_pairs

LONG = "z" * 300


@pytest.fixture(autouse=True)
def _narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(width=80, highlight=False, force_terminal=True, color_system=None)
    monkeypatch.setattr("pattern_storage.tasks.cli.tables.out", terminal)


def pattern(name: str) -> dict[str, Any]:
    return {
        "id": str(uuid4()), "pattern_name": name, "pattern_type": "function", "language": "python",
        "confidence_score": 0.5, "updated_at": "2026-11-23T14:52:09.368293+00:00",
    }  # fmt: skip


def result(success: bool = True, data: Any = None, **fields: Any) -> ModelResult:
    metadata = {"correlation_id": str(uuid4()), "operation": "insert", "duration_ms": 1.25} | fields.pop("metadata", {})
    return ModelResult(success=success, data=data, error=fields.pop("error", None), metadata=metadata)


def test_found_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    found = [pattern("short"), pattern(LONG), pattern("[b]n[/b] [/x]")]
    print_result(
        result(data={"patterns": found, "count": 3, "next_cursor": "c" * 200}, metadata={"operation": "query"}),
        as_json=False,
    )
    said = capsys.readouterr()
    assert all(each["id"] in said.out for each in found)
    assert max(map(len, said.out.splitlines())) <= 80
    assert said.out.startswith("3 found")
    assert "[b]n[/b] [/x] (function/python)" in said.out
    assert f"There are more: add --cursor {'c' * 200}\n" in said.err


def test_the_last_page_offers_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"patterns": [], "count": 0, "next_cursor": None}
    print_result(result(data=data, metadata={"operation": "query"}), as_json=False)
    said = capsys.readouterr()
    assert said.out.startswith("0 found")
    assert "--cursor" not in said.err


def test_a_success_goes_to_standard_output_and_its_id_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    done = result(data={"pattern_id": str(uuid4()), "pattern_name": "[bold]x", "tags": ["a", "b"], "nothing": None})
    print_result(done, as_json=False)
    said = capsys.readouterr()
    assert said.out.startswith("insert done")
    assert done.data["pattern_id"] in said.out
    assert "[bold]x" in said.out
    assert "a, b" in said.out
    assert "None" not in said.out
    assert said.err == f"correlation id {done.metadata['correlation_id']}, 1.2 ms in the worker\n"


def test_a_failure_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    failed = result(False, error="no such [place] \\[x]", metadata={"error_type": "validation_error"})
    print_result(failed, as_json=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[:2] == ["insert failed (validation_error)", "no such [place] \\[x]"]


@pytest.mark.parametrize("took", [None, 0.0])
def test_a_job_that_no_worker_reported(took: float | None, capsys: pytest.CaptureFixture[str]) -> None:
    lost = result(False, error="killed", metadata={"operation": None, "duration_ms": took, "error_type": "worker_lost"})
    print_result(lost, as_json=False)
    assert capsys.readouterr().err.splitlines() == [
        "job failed (worker_lost)",
        "killed",
        f"correlation id {lost.metadata['correlation_id']}",
    ]


def test_long_lists_say_how_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs({"names": [f"n{number}" for number in range(5_000)], "few": ["a", "b", "c"]}, title="t")
    said = capsys.readouterr().out
    assert "n0, n1, n2, … (5,000 in all)" in said
    assert "a, b, c\n" in "\n".join(line.rstrip() for line in said.splitlines()) + "\n"


@pytest.mark.parametrize(
    "value",
    [
        {"text": "漢字 é 🙂 " * 500},
        {"text": "[bold]x[/bold] [/nope] :smile:"},
        ["a\u2028b\tc\x1b[31m", None, 1.5, True],
        ModelResult(success=True, data={"x": LONG}, error=None, metadata={}).to_dict(),
    ],
)
def test_json_is_never_wrapped_nor_changed(value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    print_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert "\\u6f22" not in said


def test_json_on_a_terminal_that_knows_no_unicode(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console.Console.encoding", "iso8859-1")
    print_json({"text": "漢字 🙂"})
    said = capsys.readouterr().out
    assert said.isascii()
    assert json.loads(said) == {"text": "漢字 🙂"}


def test_a_failed_result_as_json_has_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    failed = result(False, error="so", metadata={"error_type": "validation_error"})
    print_result(failed, as_json=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == failed.to_dict()
    assert said.err == ""
