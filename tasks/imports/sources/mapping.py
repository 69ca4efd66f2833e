"""Column mapping from a CSV or Parquet file to pattern columns."""

from collections.abc import Sequence
from typing import Any

from pattern_storage.storage.explanation import did_you_mean
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.sources.conversion import from_json_text, from_separated, from_text, from_typed
from pattern_storage.vocabulary import ErrorType

#: Columns of more than one value.
COMPOSITE = ("tags", "context")


class Mapping:
    """The mapping of one file.

    Args:
        plan: its `columns` map pattern columns to the file's.
        names: the file's columns, in order.
        file: the file's name in errors.

    Raises:
        ImportBroken: a mapped column is missing or ambiguous, or a column of the file is unknown.
    """

    def __init__(self, plan: ImportPlan, names: Sequence[str], *, file: str) -> None:
        self._separator = plan.separator
        columns = plan.columns or {name: name for name in names}
        for column, name in columns.items():
            if column not in WRITABLE:
                ways = "in 'columns' of the imports file, or as --column COLUMN=NAME"
                hint = f"{did_you_mean(column, WRITABLE)}; name each column to take {ways}"
                reason = f"{file}: unknown column {column!r}; {hint}"
            elif name not in names:
                reason = f"{file} has no column {name!r}; {did_you_mean(name, names)}"
            elif names.count(name) > 1:
                reason = f"{file} has two columns {name!r}"
            else:
                continue
            raise ImportBroken(ErrorType.COLUMNS_INVALID, reason)
        #: The file's columns that are mapped.
        self.names = list(columns.values())
        self._indexes = [(column, names.index(name)) for column, name in columns.items()]
        self._columns = list(columns.items())

    def from_csv(self, values: Sequence[str]) -> dict[str, Any]:
        """Return a CSV row's values by pattern column, without empty texts. Raises ValueError."""
        return {column: self._parse(column, values[index]) for column, index in self._indexes if values[index]}

    def from_parquet(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return a Parquet row's values by pattern column, without nulls. Raises ValueError."""
        return {
            column: self._parse(column, value)
            if isinstance(value, str) and column in COMPOSITE
            else from_typed(column, value)
            for column, name in self._columns
            if (value := values[name]) is not None
        }

    def _parse(self, column: str, text: str) -> Any:
        if column not in COMPOSITE:
            return from_text(column, text)
        if self._separator is None:
            return from_json_text(column, text)
        return from_separated(column, text, self._separator)
