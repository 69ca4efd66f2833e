"""Environment variables of the settings: their names, and the error text for a wrong one."""

from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
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


def missing(variable: str, fields: Collection[str], data_dir: Path) -> str:
    """Return a sentence about the variable of a URL that is missing: beside those of `fields`, or with no `up`."""
    if fields:
        given = " and ".join(map(variable_of, fields))
        return (
            f"{variable} is not set, but {given} {'is' if len(fields) == 1 else 'are'}:"
            f" set {variable} too, or unset {given} for the servers of 'pattern-storage up'"
        )
    return (
        f"{variable} is not set and no servers run in {data_dir};"
        f" set {variable}, or start servers of your own with 'pattern-storage up'"
    )


def sentence(error: Any) -> str:
    """Return one of pydantic's errors as a sentence: the variable, its value and the rule."""
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(message)
    rule = message.removeprefix("Input ").split(", unable to parse")[0]
    return f"{variable_of(str(error['loc'][0]))} is {error['input']!r}; it {rule}"
