"""The environment's variables: their names, and what to say of one that is wrong."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

PREFIX = "PATTERN_STORAGE_"


def variable_of(field: str) -> str:
    """Return the variable that sets this field; a URL's has no prefix of ours."""
    return field.upper() if field.lower().endswith("_url") else f"{PREFIX}{field.upper()}"


def find_misspelt(variables: Collection[str], fields: Collection[str]) -> str | None:
    """Return a sentence about the first variable of ours that names no field, None if there is none."""
    known = [f"{PREFIX}{field.upper()}" for field in fields]
    for variable in variables:
        if variable.startswith(PREFIX) and variable not in known:
            close = get_close_matches(variable, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            return f"{variable} is set, but there is no such setting{hint}"
    return None


def sentence(finding: Any) -> str:
    """Return one of pydantic's findings as a sentence: the variable, what it got, what it wants."""
    message = finding["msg"].removeprefix("Value error, ")
    if not finding["loc"]:
        return str(message)
    rule = message.removeprefix("Input ").split(", unable to parse")[0]
    return f"{variable_of(str(finding['loc'][0]))} is {finding['input']!r}; it {rule}"
