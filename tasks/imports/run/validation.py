"""Validation of a source's rows by the rules of an insert, and their encoding for COPY, in chunks."""

from collections.abc import Generator
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from pattern_storage.storage import copy_rows, numbers
from pattern_storage.storage.explanation import explain, explain_json_error
from pattern_storage.storage.pattern import Pattern
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.run.rejects import Rejects
from pattern_storage.tasks.imports.run.small_row import SmallPattern, validate_line
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.formats import read_rows

#: Bytes of a chunk. Two chunks at most are in memory, for files of any size.
CHUNK_SIZE = 256 * 1024


class ValidatedRows:
    """The rows of a source, read once from the first to the last. It blocks: iterate in a thread.

    After too many rejected rows it only counts the others, and yields no chunk any more.
    """

    def __init__(self, plan: ImportPlan, source: Source, rejects: Rejects) -> None:
        self._plan, self._source, self._rejects = plan, source, rejects
        #: Rows read so far, and the valid ones among them.
        self.read = 0
        self.valid = 0
        #: Columns that occur in any row.
        self.columns: set[str] = set(plan.constants)

    def chunks(self, *, places: bool) -> Generator[bytes, None, None]:
        """Yield rows in COPY's binary format, with their file and line if `places` is true. Raises ImportFailed."""
        encoded = [copy_rows.HEADER]
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
                encoded.append(
                    copy_rows.encode(pattern.__dict__, copy_rows.placed(number, line) if places else copy_rows.UNPLACED)
                )
                size += len(encoded[-1])
                if size >= CHUNK_SIZE:
                    yield b"".join(encoded)
                    encoded, size = [], 0
        if not self._rejects.too_many:
            yield b"".join([*encoded, copy_rows.TRAILER])

    def _check(self, row: bytes | dict[str, Any] | ValueError) -> Pattern | SmallPattern:
        """Return the row as a pattern. Raises ValueError."""
        if isinstance(row, ValueError):
            raise row
        if isinstance(row, bytes):
            numbers.check(row)
        if not self._plan.constants:
            return validate_line(row) if isinstance(row, bytes) else Pattern.model_validate(row)
        try:
            values = from_json(row) if isinstance(row, bytes) else row
        except ValueError as error:
            raise ValueError(explain_json_error(str(error))) from None
        if not isinstance(values, dict):
            raise ValueError(f"a row should be a JSON object, got {type(values).__name__}")
        return Pattern.model_validate(self._plan.constants | values)
