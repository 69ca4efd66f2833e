"""Input of patterns: `name=value` arguments, and files of JSON or JSON Lines."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pattern_storage.storage import numbers
from pattern_storage.storage.explanation import did_you_mean
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.tasks.cli.exits import InputInvalid

#: Columns whose value is no text: it is read as JSON (0.9, true, null, ["a"], {"k": 1}).
TYPED = frozenset({
    "confidence_score", "usage_count", "success_rate", "complexity_score", "maintainability_score",
    "performance_score", "is_deprecated", "tags", "context",
})  # fmt: skip


def parse_fields(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn `name=value` arguments into columns; `name=@file` reads a text file. Raises InputInvalid."""
    fields: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise InputInvalid(f"{assignment!r} is not of the form column=value")
        if name not in WRITABLE:
            raise InputInvalid(f"unknown column {name!r}; {did_you_mean(name, WRITABLE)}")
        if name in fields:
            raise InputInvalid(f"{name} is given twice")
        fields[name] = _value(name, value)
    return fields


def _value(name: str, value: str) -> Any:
    if value.startswith("@"):
        try:
            value = read_text(Path(value[1:]))
        except InputInvalid as error:
            raise InputInvalid(f"{name}: {error}; a text that begins with '@' comes from a file") from None
    if name not in TYPED:
        return None if value == "null" and name not in ("pattern_name", "template_code") else value
    _check_numbers(name, value)
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        # tags=async,io needs no quotes; the rule of any other column refuses a text that is no JSON.
        return [tag.strip() for tag in value.split(",")] if name == "tags" else value


def _check_numbers(source: str, text: str) -> None:
    try:
        numbers.check(text)
    except ValueError as error:
        raise InputInvalid(f"{source}: {error}") from None


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, of standard input for `-`, line ends and all. Raises InputInvalid."""
    try:
        return (sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()).decode()
    except OSError as error:
        raise InputInvalid(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputInvalid(f"cannot read {path}: it is not UTF-8 text (byte {error.start})") from None


@dataclass(frozen=True)
class PatternFile:
    """The patterns of a file, and the line of each where every one has a line of its own."""

    path: Path
    patterns: list[Any]
    lines: list[int] | None = None

    def place(self, index: int) -> str:
        """Return where the pattern of this index is: people count from 1."""
        return f"{self.path}, " + (f"pattern {index + 1}" if self.lines is None else f"line {self.lines[index]}")


def read_patterns(path: Path) -> PatternFile:
    """Return the patterns of a file: a JSON object, a JSON array, or JSON Lines. Raises InputInvalid."""
    # Some editors begin a file with a byte order mark; JSON has none.
    text = read_text(path).removeprefix("\ufeff")
    _check_numbers(str(path), text)
    lines = None
    try:
        found = [] if not text.strip() else json.loads(text)
    except json.JSONDecodeError as error:
        if not _is_json_lines(text, error):
            error = _at_end(error)
            raise _not_json(path, error, error.lineno) from None
        numbered = {number: line for number, line in enumerate(text.split("\n"), start=1) if line.strip()}
        found, lines = [_line(path, number, line) for number, line in numbered.items()], list(numbered)
    except (ValueError, RecursionError) as error:
        raise InputInvalid(f"cannot read {path}: {error}") from None
    file = PatternFile(path, found if isinstance(found, list) else [found], lines)
    for index, pattern in enumerate(file.patterns):
        if not isinstance(pattern, dict):
            raise InputInvalid(f"{file.place(index)} should be a JSON object, got {type(pattern).__name__}")
    if not file.patterns:
        raise InputInvalid(f"{path} holds no pattern")
    return file


def _is_json_lines(text: str, error: json.JSONDecodeError) -> bool:
    """Whether each line should be a value of its own, in a text that is no JSON value as a whole."""
    if error.msg == "Extra data":
        # The first value ends here: at the end of its line, or before it.
        return error.lineno > 1
    first, *others = (line.strip() for line in text.strip().split("\n"))
    # The first line may be the wrong one: then another is whole. A lone brace begins one value of many lines.
    return first.startswith("{") and first != "{" and any(line.startswith("{") and _is_json(line) for line in others)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _at_end(error: json.JSONDecodeError) -> json.JSONDecodeError:
    """Return the error, in the last line with text where that ends too early: json names the empty line after it."""
    end = error.doc.rstrip()
    return error if error.pos < len(end) else json.JSONDecodeError(error.msg, end, len(end))


def _line(path: Path, number: int, line: str) -> Any:
    _check_numbers(f"{path}, line {number}", line)
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise _not_json(path, error, number) from None
    except (ValueError, RecursionError) as error:
        raise InputInvalid(f"cannot read {path}, line {number}: {error}") from None


def _not_json(path: Path, error: json.JSONDecodeError, line: int) -> InputInvalid:
    return InputInvalid(f"{path} is not JSON at line {line}, column {error.colno}: {error.msg}")
