"""Conversion of texts and of Parquet values to the types of pattern columns. Every function raises ValueError."""

import json
import math
import re
from typing import Any

from pattern_storage.storage import numbers

#: Columns of numbers and truth values; all others but tags and context are texts.
KINDS: dict[str, type] = {
    "confidence_score": float, "usage_count": int, "success_rate": float, "complexity_score": int,
    "maintainability_score": float, "performance_score": float, "is_deprecated": bool,
}  # fmt: skip

_NAMES = {float: "number", int: "whole number", bool: "truth value"}
_TRUTH = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}

#: A number as spreadsheets and databases write it. Python also accepts 1_000, nan and the digits of all scripts.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def from_text(column: str, text: str) -> Any:
    """Return the value for a column of numbers or truth values; for any other the text."""
    kind = KINDS.get(column)
    if kind is None:
        return text
    value = _TRUTH.get(text.strip().lower()) if kind is bool else _number(text.strip(), kind)
    if value is None:
        raise ValueError(f"{column} should be a {_NAMES[kind]}, got {text[:60]!r}")
    return value


def _number(text: str, kind: type) -> float | int | None:
    if len(text) > 400 or not _NUMBER.fullmatch(text):
        return None
    if kind is int and text.lstrip("+-").isdigit():
        return int(text)
    number = float(text)
    if kind is float:
        return number
    return int(number) if number.is_integer() else None


def from_json_text(column: str, text: str) -> Any:
    """Return tags or context from their JSON text."""
    numbers.check(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{column} should be JSON, got {text[:60]!r}; or set 'separator'") from None


def from_separated(column: str, text: str, separator: str) -> Any:
    """Return tags, or a context of `key=value` pairs, from a text with this separator between them."""
    parts = [part.strip() for part in text.split(separator) if part.strip()]
    if column == "tags":
        return parts
    pairs = [part.partition("=") for part in parts]
    if wrong := next((key for key, sign, _ in pairs if not sign), None):
        raise ValueError(f"context should be key=value pairs, got {wrong[:60]!r}")
    return {key.strip(): value.strip() for key, _, value in pairs}


def from_typed(column: str, value: Any) -> Any:
    """Return a Parquet file's value in the column's type where that is exact, else as it is, for validation."""
    kind = KINDS.get(column)
    if kind is bool and type(value) is int and value in (0, 1):
        return bool(value)
    if kind is int and type(value) is float and math.isfinite(value) and value.is_integer():
        return int(value)
    return value
