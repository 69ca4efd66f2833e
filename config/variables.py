"""Environment variables of the settings: their names, and the error text for a wrong one."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

PREFIX = "PATTERN_STORAGE_"


def variable_of(field: str) -> str:
    """Return the variable that sets this field; those of URLs have no prefix."""
    return field.upper() if field.lower().endswith("_url") else f"{PREFIX}{field.upper()}"


def find_misspelt(variables: Collection[str], fields: Collection[str]) -> str | None:
    """Return a sentence about the first variable with our prefix that belongs to no field, None if there is none."""
    known = [f"{PREFIX}{field.upper()}" for field in fields]
    for variable in variables:
        if variable.startswith(PREFIX) and variable not in known:
            close = get_close_matches(variable, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            return f"{variable} is set, but there is no such setting{hint}"
    return None


def sentence(error: Any) -> str:
    """Return one of pydantic's errors as a sentence: the variable, its value and the rule."""
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(message)
    rule = message.removeprefix("Input ").split(", unable to parse")[0]
    return f"{variable_of(str(error['loc'][0]))} is {error['input']!r}; it {rule}"
