"""Explanation of pydantic's findings in one clear sentence: the field, what it got, what it wants."""

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

#: Values of these fields are never repeated in an error: they may be long, or secret.
UNQUOTED = frozenset({"template_code", "example_usage", "context"})
#: Pydantic's words for what it finds in JSON, and those for the same in Python.
IN_JSON = {"should be a valid array": "should be a valid list", "should be an object": "should be a valid dictionary"}
#: An error of pydantic's JSON parser.
JSON_ERROR = re.compile(r"(?P<reason>.*) at line (?P<line>\d+) column (?P<column>\d+)", re.DOTALL)
#: How libpq begins another line of the same sentence.
CONTINUED = "\n\t"
SHOWN_CHARACTERS = 60
SHOWN_ERRORS = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" where a known name is close to `name`, else the list of known names."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"


def refuse_unknown(given: Mapping[Any, Any], known: Collection[str], kind: str) -> None:
    """Raise ValueError naming the first key of `given` that is not in `known`."""
    for key in given:
        if key not in known:
            shown = _shorten(printable(key))
            raise ValueError(f"unknown {kind} {shown!r}; {did_you_mean(shown, known)}")


def printable(value: Any) -> str:
    """Return `str(value)` without anything that UTF-8 cannot carry; never raises."""
    try:
        return str(value).encode(errors="backslashreplace").decode()
    except Exception:  # an int of more digits than Python prints, or a __str__ that fails
        return f"<{type(value).__name__}>"


def storable(value: Any) -> str:
    """Return `printable(value)` without a NUL character, which PostgreSQL cannot store."""
    return printable(value).replace("\x00", "\\x00")


def one_line(text: str) -> str:
    """Return the text with everything escaped that could forge a line of a log or command a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text.replace(CONTINUED, " "))


def explain(error: ValidationError) -> str:
    """Return the findings of a ValidationError as one sentence without a traceback or a link."""
    findings = error.errors(include_url=False)
    text = "; ".join(_sentence(finding) for finding in findings[:SHOWN_ERRORS])
    more = len(findings) - SHOWN_ERRORS
    return f"{text} (and {more} more)" if more > 0 else text


def explain_json_error(error: str) -> str:
    """Return an error of pydantic's JSON parser in plain words, without the line if there is only one so far."""
    found = JSON_ERROR.fullmatch(error)
    if found is None:
        return f"not JSON: {error}"
    reason = found["reason"].replace("EOF while parsing", "it ends within")
    reason = reason.replace("expected ident", "expected value")
    line = "" if found["line"] == "1" else f"line {found['line']}, "
    return f"not JSON at {line}column {found['column']}: {reason}"


def _sentence(finding: ErrorDetails) -> str:
    field = ".".join(_shorten(printable(part)) for part in finding["loc"])
    if finding["type"] == "json_invalid":
        return explain_json_error(finding["ctx"]["error"])
    message = finding["msg"].removeprefix("Value error, ")
    if not field:
        return message
    if finding["type"] == "missing":
        return f"{field} is required"
    message = message.removeprefix("Input ").removeprefix("String ")
    message = IN_JSON.get(message, message)
    joint = " " if message.startswith("should") else ": "
    return f"{field}{joint}{message}, got {_got(field, finding['input'])}"


def _got(field: str, value: Any) -> str:
    if isinstance(value, str):
        if field.split(".")[0] in UNQUOTED or len(value) > SHOWN_CHARACTERS:
            return f"a text of {len(value)} characters"
        return repr(value)
    if isinstance(value, list | tuple | dict | set):
        return f"{type(value).__name__} of {len(value)}"
    try:
        return _shorten(repr(value))
    except ValueError:  # an int of more digits than Python prints
        return f"a very large {type(value).__name__}"
    except Exception:  # a __repr__ that fails must not hide the finding
        return f"a {type(value).__name__}"


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
