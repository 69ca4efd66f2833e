"""Patterns as people type them, and as files hold them."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from pattern_storage.storage.pattern import WRITABLE, Pattern
from pattern_storage.tasks.cli.exits import InputInvalid
from pattern_storage.tasks.cli.fields import TYPED, parse_fields, read_patterns


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("pattern_name=Singleton", "Singleton"),
        ("pattern_name=42", "42"),
        ("pattern_name=null", "null"),
        ("template_code=null", "null"),
        ("template_code=a = b == c", "a = b == c"),
        ("template_code=", ""),
        ("description=null", None),
        ("description=true", "true"),
        ("description={}", "{}"),
        ("confidence_score=0.9", 0.9),
        ("confidence_score=high", "high"),
        ("usage_count=3", 3),
        ("complexity_score=null", None),
        ("is_deprecated=true", True),
        ("is_deprecated=True", "True"),
        ("tags=async,io", ["async", "io"]),
        ("tags=async", ["async"]),
        ("tags= a , b ", ["a", "b"]),
        ('tags=["a,b", "c"]', ["a,b", "c"]),
        ("tags=[]", []),
        ('context={"k": [1]}', {"k": [1]}),
        ("context=k", "k"),
    ],
)
def test_a_value_is_read_as_its_column_wants_it(assignment: str, value: Any) -> None:
    [(_, found)] = parse_fields([assignment]).items()
    assert found == value
    assert type(found) is type(value)


def test_columns_read_as_json_are_those_that_are_no_text() -> None:
    texts = {name for name, field in Pattern.model_fields.items() if "str" in str(field.annotation)} - {"tags"}
    assert set(WRITABLE) - TYPED == texts - TYPED | {"parent_pattern_id"}
    assert set(WRITABLE) > TYPED


def test_all_arguments_together() -> None:
    found = parse_fields(["pattern_name=a", "tags=x,y", "confidence_score=1"])
    assert found == {"pattern_name": "a", "tags": ["x", "y"], "confidence_score": 1}


@pytest.mark.parametrize(
    ("assignments", "sentence"),
    [
        (["Singleton"], "'Singleton' is not of the form column=value"),
        (["patern_name=x"], "unknown column 'patern_name'; did you mean 'pattern_name'?"),
        (["zzz=x"], f"unknown column 'zzz'; known are {', '.join(WRITABLE)}"),
        (["=x"], f"unknown column ''; known are {', '.join(WRITABLE)}"),
        (["language=c", "language=d"], "language is given twice"),
        (["language=c", "language=c"], "language is given twice"),
    ],
)
def test_a_wrong_argument_is_one_sentence(assignments: list[str], sentence: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        parse_fields(assignments)
    assert str(caught.value) == sentence


def test_a_value_from_a_file_is_kept_byte_for_byte(tmp_path: Path) -> None:
    text = "def f():\r\n    return 'é'\r# old Mac\n\n"
    (tmp_path / "code.py").write_bytes(text.encode())
    assert parse_fields([f"template_code=@{tmp_path / 'code.py'}"]) == {"template_code": text}


def test_a_typed_value_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "context.json").write_text('{"k": 1}\n')
    assert parse_fields([f"context=@{tmp_path / 'context.json'}"]) == {"context": {"k": 1}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), (b"ok\xff", "it is not UTF-8 text (byte 2)"), ("folder", "Is a directory")],
)
def test_a_file_that_cannot_be_read_names_the_column(tmp_path: Path, content: bytes | str | None, reason: str) -> None:
    file = tmp_path / "it"
    if content == "folder":
        file.mkdir()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(InputInvalid) as caught:
        parse_fields([f"template_code=@{file}"])
    assert str(caught.value) == (
        f"template_code: cannot read {file}: {reason}; a text that begins with '@' comes from a file"
    )


def standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    # Latin-1: what a terminal's locale says must not matter.
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="latin-1"))


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    standard_input(monkeypatch, '[{"pattern_name": "é"}]'.encode())
    assert read_patterns(Path("-")).patterns == [{"pattern_name": "é"}]
    standard_input(monkeypatch, "é\r\n".encode())
    assert parse_fields(["template_code=@-"]) == {"template_code": "é\r\n"}
    standard_input(monkeypatch, b"\xff")
    with pytest.raises(InputInvalid, match=r"^cannot read -: it is not UTF-8 text"):
        read_patterns(Path("-"))


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ('{\n "a": 1\n}\n', [{"a": 1}]),
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\r\n\r\n  \r\n{"a": 2}', [{"a": 1}, {"a": 2}]),
        ('\ufeff{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}]),
        # U+2028 ends a line for some; in JSON it is a character like any other.
        ('{"a": "x\u2028y"}\n{"a": 2}', [{"a": "x\u2028y"}, {"a": 2}]),
    ],
)
def test_files_of_patterns(tmp_path: Path, text: str, patterns: list[dict[str, Any]]) -> None:
    (tmp_path / "p").write_bytes(text.encode())
    assert read_patterns(tmp_path / "p").patterns == patterns


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" \n", "{} holds no pattern"),
        ("garbage", "{} is not JSON at line 1, column 1: Expecting value"),
        ('{"a": 1} {"a": 2}', "{} is not JSON at line 1, column 10: Extra data"),
        ('{"a": 1}\n{"a": 2}\n{"a": }\n', "{} is not JSON at line 3, column 7: Expecting value"),
        ('{"a": 1}\n\n\noops', "{} is not JSON at line 4, column 1: Expecting value"),
        # A line that ends too early is the one that is wrong, not the one after it.
        ('{"a": 1\n', "{} is not JSON at line 1, column 8: Expecting ',' delimiter"),
        ('{"a":\r\n\r\n', "{} is not JSON at line 1, column 6: Expecting value"),
        ('{"a": 1\n{"a": 2}\n', "{} is not JSON at line 1, column 8: Expecting ',' delimiter"),
        ('\n{"a":\n{"a": 2}\n', "{} is not JSON at line 2, column 6: Expecting value"),
        ('{"a": 1}\n{"a": [2\n{"a": 3}', "{} is not JSON at line 2, column 9: Expecting ',' delimiter"),
        ('{"a": 1}\n{"a": "b\n', "{} is not JSON at line 2, column 7: Unterminated string starting at"),
        ('[\n  {"a": 1},\n  {"a": 2\n', "{} is not JSON at line 3, column 10: Expecting ',' delimiter"),
        ('{\n "a":\n{"b": 2}\n "c": 1}', "{} is not JSON at line 4, column 2: Expecting ',' delimiter"),
        # One document with a fault in it is not taken for many.
        ('[\n  {"a": 1},\n  {"a": }\n]', "{} is not JSON at line 3, column 9: Expecting value"),
        ("[]", "{} holds no pattern"),
        ("[1]", "{}, pattern 1 should be a JSON object, got int"),
        ('[{"a": 1}, "b"]', "{}, pattern 2 should be a JSON object, got str"),
        ('{"a": 1}\n\n[]', "{}, line 3 should be a JSON object, got list"),
        ("null", "{}, pattern 1 should be a JSON object, got NoneType"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(InputInvalid) as caught:
        read_patterns(tmp_path / "p")
    assert str(caught.value) == sentence.format(tmp_path / "p")


@pytest.mark.parametrize("before", ["", '{"a": 1}\n'])
@pytest.mark.parametrize("value", ["[" * 100_000, '{"a": ' + "9" * 10_000 + "}"])
def test_json_that_python_refuses_is_refused_in_one_sentence(tmp_path: Path, before: str, value: str) -> None:
    (tmp_path / "p").write_text(before + value)
    with pytest.raises(InputInvalid, match=f"^cannot read {tmp_path / 'p'}{', line 2' if before else ''}: ") as caught:
        read_patterns(tmp_path / "p")
    assert "\n" not in str(caught.value)


def test_a_typed_value_nested_too_deeply_is_left_to_its_columns_rule() -> None:
    assert parse_fields(["context=" + "[" * 100_000]) == {"context": "[" * 100_000}
