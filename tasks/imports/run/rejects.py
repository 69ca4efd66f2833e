"""Rejected rows of a run: their number, the first of them for the error, the reject file and its report."""

import json
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.vocabulary import ErrorType

#: Rejected rows that an error lists; the others are counted.
MAX_REPORTED = 20

#: Characters of a rejected row that are written to the reject file.
KEPT_CHARACTERS = 100_000


@dataclass(frozen=True)
class BadRow:
    """A row that was not stored: its file, its line or number counted from 1, and the reason."""

    file: str
    line: int
    reason: str


class Rejects:
    """Rejected rows of one run.

    Args:
        folder: the folder of all reject files, with a subfolder for each import.
        plan: has the name, the source and the limit of bad rows.
        run_id: the name of the files.
    """

    def __init__(self, folder: Path, plan: ImportPlan, run_id: UUID) -> None:
        self.count = 0
        self.first: list[BadRow] = []
        self._plan = plan
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", plan.name).strip("._")[-100:] or "import"
        self.path = folder / name / f"{run_id}.rejected.jsonl"
        self.report_path = folder / name / f"{run_id}.report.json"
        self._opened = ExitStack()
        self._stream: IO[str] | None = None
        self._discarded = False

    @property
    def too_many(self) -> bool:
        """Whether there are more than the plan allows, so that the run has failed."""
        return self.count > self._plan.max_bad_rows

    def add(self, file: str, line: int, reason: str, row: Any) -> None:
        """Record a rejected row. Raises ImportBroken if the reject file cannot be written."""
        self.count += 1
        bad = BadRow(file, line, reason)
        if len(self.first) < MAX_REPORTED:
            self.first.append(bad)
        if not self.too_many and not self._discarded:
            self._write(bad, row)

    def write_report(self, about: dict[str, Any]) -> None:
        """Close the reject file and write the report beside it, if there was a bad row."""
        if self._stream is None:
            return
        self._opened.close()
        report = about | {
            "source": redact(self._plan.source),
            "rejected": self.count,
            "reject_file": str(self.path),
            "max_bad_rows": self._plan.max_bad_rows,
        }
        try:
            with _created(self.report_path) as stream:
                stream.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def start_over(self) -> None:
        """Forget all rejected rows, because the source is read again."""
        self.count, self.first = 0, []
        self._remove_files()
        self._stream = None

    def discard(self) -> None:
        """Remove both files of a run that failed, and write no rows that its thread still rejects."""
        self._discarded = True
        self._remove_files()

    def _remove_files(self) -> None:
        self._opened.close()
        # Without a stream they are those of another process, which executes this run now.
        if self._stream is not None:
            self.path.unlink(missing_ok=True)
            self.report_path.unlink(missing_ok=True)

    def _write(self, bad: BadRow, row: Any) -> None:
        if isinstance(row, bytes):
            row = row.decode("utf-8", "backslashreplace").rstrip("\r\n")[:KEPT_CHARACTERS]
        try:
            if self._stream is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._opened.enter_context(_created(self.path))
            self._stream.write(json.dumps(asdict(bad) | {"row": row}, ensure_ascii=False, default=str) + "\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> ImportBroken:
        hint = "max_bad_rows needs a folder to write to, PATTERN_STORAGE_DATA_DIR"
        return ImportBroken(ErrorType.REJECT_FILE, f"{self.path} cannot be written: {error.strerror}; {hint}")


def _created(path: Path) -> IO[str]:
    """Return an empty file that only its owner may read, because a rejected row may hold secrets."""
    stream = os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8", errors="backslashreplace"
    )
    # The file of a killed run may have another mode.
    os.fchmod(stream.fileno(), 0o600)
    return stream


def bad_rows_error(error_type: ErrorType, count: int, first: Sequence[BadRow]) -> ImportBroken:
    """Return an error that lists the first rejected rows and counts the others."""
    more = count - len(first)
    several = len({bad.file for bad in first}) > 1
    listed = "; ".join(f"{bad.file + ' ' if several else ''}line {bad.line}: {bad.reason}" for bad in first)
    sentence = f"{count:,} bad {'row' if count == 1 else 'rows'}: {listed}{f'; and {more:,} more' if more else ''}"
    return ImportBroken(error_type, sentence, bad_rows=[asdict(bad) for bad in first], more_bad_rows=more)
