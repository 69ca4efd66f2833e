"""Conversion of a source's rows to patterns, checked by the rules of an insert and encoded for COPY in chunks."""

from collections.abc import Generator
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from pattern_storage.storage import copy_rows, numbers
from pattern_storage.storage.explanation import explain
from pattern_storage.storage.pattern import Pattern
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.run.rejects import Rejects
from pattern_storage.tasks.imports.run.small_row import SmallPattern, validate_line
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.formats import read_rows

#: Bytes of a chunk. One chunk and the next are in memory, whatever the file's size.
CHUNK_SIZE = 256 * 1024


class ValidatedRows:
    """The rows of a source, read once from first to last. Blocks: iterate in a thread.

    After too many rejected rows it reads on to count them, but yields nothing more.
    """

    def __init__(self, plan: ImportPlan, source: Source, rejects: Rejects) -> None:
        self._plan, self._source, self._rejects = plan, source, rejects
        #: Rows read so far, and how many of them are valid.
        self.read = 0
        self.valid = 0
        #: Columns that occur in any row.
        self.columns: set[str] = set(plan.constants)

    def chunks(self, *, places: bool) -> Generator[bytes, None, None]:
        """Yield rows of COPY's binary format, for the staging table with file and line. Raises ImportFailed."""
        waiting = [copy_rows.HEADER]
        size = 0
        for number, file in enumerate(self._source.files):
            for line, row in read_rows(self._plan, self._source, file):
                self.read += 1
                try:
                    pattern = self._check(row)
                except ValueError as error:
                    reason = explain(error) if isinstance(error, ValidationError) else str(error)
                    self._rejects.add(file.display_name, line, reason, None if isinstance(row, ValueError) else row)
                    continue
                if self._rejects.too_many:
                    continue
                self.valid += 1
                self.columns |= pattern.model_fields_set
                waiting.append(
                    copy_rows.encode(pattern.__dict__, copy_rows.placed(number, line) if places else copy_rows.UNPLACED)
                )
                size += len(waiting[-1])
                if size >= CHUNK_SIZE:
                    yield b"".join(waiting)
                    waiting, size = [], 0
        if not self._rejects.too_many:
            yield b"".join([*waiting, copy_rows.TRAILER])

    def _check(self, row: bytes | dict[str, Any] | ValueError) -> Pattern | SmallPattern:
        """Return the row as a pattern. Raises ValueError."""
        if isinstance(row, ValueError):
            raise row
        if isinstance(row, bytes):
            numbers.check(row)
        if not self._plan.constants:
            return validate_line(row) if isinstance(row, bytes) else Pattern.model_validate(row)
        values = from_json(row) if isinstance(row, bytes) else row
        if not isinstance(values, dict):
            raise ValueError(f"a row should be a JSON object, got {type(values).__name__}")
        return Pattern.model_validate(self._plan.constants | values)
