"""All rows of a source, checked by the rules of an insert and made ready for COPY, a chunk at a time."""

from collections.abc import Generator
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from pattern_storage.storage.explanation import explain
from pattern_storage.storage.pattern import PatternData
from pattern_storage.storage.staging import encode
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.run.rejects import Rejects
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.formats import read_rows

#: Characters that are handed on at once. A chunk and the next are in memory, whatever the file's size.
CHUNK = 256 * 1024


class Rows:
    """Reads a source once, from its first row to its last; blocks, so iterate over it in a thread.

    It goes on after too many bad rows, to say how many there are, but yields nothing more.
    """

    def __init__(self, plan: ImportPlan, source: Source, rejects: Rejects) -> None:
        self._plan, self._source, self._rejects = plan, source, rejects
        #: Rows read so far, bad ones and all, and those that were handed on.
        self.read = 0
        self.good = 0
        #: Columns that any row has.
        self.given: set[str] = set(plan.constants)

    def chunks(self) -> Generator[bytes, None, None]:
        """Yield lines of COPY's text format. Raises ImportFailed."""
        waiting: list[str] = []
        size = 0
        for number, file in enumerate(self._source.files):
            for line, row in read_rows(self._plan, self._source, file):
                self.read += 1
                try:
                    pattern = self._check(row)
                except ValueError as error:
                    reason = explain(error) if isinstance(error, ValidationError) else str(error)
                    self._rejects.add(file.shown, line, reason, None if isinstance(row, ValueError) else row)
                    continue
                if self._rejects.too_many:
                    continue
                self.good += 1
                self.given |= pattern.model_fields_set
                waiting.append(encode(number, line, pattern.__dict__))
                size += len(waiting[-1])
                if size >= CHUNK:
                    yield "".join(waiting).encode()
                    waiting, size = [], 0
        if waiting and not self._rejects.too_many:
            yield "".join(waiting).encode()

    def _check(self, row: bytes | dict[str, Any] | ValueError) -> PatternData:
        """Return the row as a pattern. Raises ValueError."""
        if isinstance(row, ValueError):
            raise row
        if not self._plan.constants:
            return PatternData.model_validate_json(row) if isinstance(row, bytes) else PatternData.model_validate(row)
        values = from_json(row) if isinstance(row, bytes) else row
        if not isinstance(values, dict):
            raise ValueError(f"a row should be a JSON object, got {type(values).__name__}")
        return PatternData.model_validate(self._plan.constants | values)
