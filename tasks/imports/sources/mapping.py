"""Column mapping and type conversion from a CSV or Parquet file to pattern columns."""

import json
from collections.abc import Sequence
from typing import Any

from pattern_storage.storage.explanation import did_you_mean
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.vocabulary import ErrorType

#: Columns whose CSV text is a number or a truth value; all others but tags and context are texts.
_KINDS: dict[str, type] = {
    "confidence_score": float, "usage_count": int, "success_rate": float, "complexity_score": int,
    "maintainability_score": float, "performance_score": float, "is_deprecated": bool,
}  # fmt: skip
_TRUTH = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}


class Mapping:
    """The mapping of one file.

    Args:
        plan: its `columns` map pattern columns to the file's.
        names: the file's columns, in order.
        shown: the file's name for errors.

    Raises:
        ImportBroken: a mapped column is missing, or a column of the file is unknown.
    """

    def __init__(self, plan: ImportPlan, names: Sequence[str], *, shown: str) -> None:
        self._separator = plan.separator
        wanted = plan.columns or {name: name for name in names}
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ImportBroken(ErrorType.COLUMNS_INVALID, f"{shown} has two columns {repeated!r}")
        for column, name in wanted.items():
            if column not in WRITABLE:
                hint = f"{did_you_mean(column, WRITABLE)}; name the columns to take in 'columns'"
                raise ImportBroken(ErrorType.COLUMNS_INVALID, f"{shown}: unknown column {column!r}; {hint}")
            if name not in names:
                raise ImportBroken(
                    ErrorType.COLUMNS_INVALID, f"{shown} has no column {name!r}; {did_you_mean(name, names)}"
                )
        #: The file's columns that are taken.
        self.names = list(wanted.values())
        self._places = [(column, names.index(name)) for column, name in wanted.items()]
        self._columns = [(column, name) for column, name in wanted.items()]

    def from_csv(self, values: Sequence[str]) -> dict[str, Any]:
        """Return the columns of a CSV row; an empty text is no value. Raises ValueError."""
        return {column: self._read(column, values[place]) for column, place in self._places if values[place]}

    def from_parquet(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the columns of a Parquet row; a null is no value. Raises ValueError."""
        found = {}
        for column, name in self._columns:
            value = values[name]
            if value is None:
                continue
            if isinstance(value, str) and column in ("tags", "context"):
                value = self._read(column, value)
            elif column in ("tags", "context") and isinstance(value, list) and value and isinstance(value[0], tuple):
                value = dict(value)  # a Parquet map
            found[column] = value
        return found

    def _read(self, column: str, text: str) -> Any:
        if column in ("tags", "context"):
            return self._read_json(column, text) if self._separator is None else self._split(column, text)
        kind = _KINDS.get(column)
        if kind is None:
            return text
        try:
            return _TRUTH[text.strip().lower()] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise ValueError(f"{column} should be a {_NAMES[kind]}, got {text[:60]!r}") from None

    def _read_json(self, column: str, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"{column} should be JSON, got {text[:60]!r}; or set 'separator'") from None

    def _split(self, column: str, text: str) -> Any:
        parts = [part.strip() for part in text.split(self._separator) if part.strip()]
        if column == "tags":
            return parts
        pairs = [part.partition("=") for part in parts]
        if wrong := next((key for key, sign, _ in pairs if not sign), None):
            raise ValueError(f"context should be key=value pairs, got {wrong[:60]!r}")
        return {key.strip(): value.strip() for key, _, value in pairs}


_NAMES = {float: "number", int: "whole number", bool: "truth value"}
