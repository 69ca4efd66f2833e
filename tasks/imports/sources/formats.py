"""Registry of the import formats. A new one has a parser in PARSERS and a suffix in plan/model.py."""

from collections.abc import Iterator
from pathlib import Path

from pattern_storage.extract import HarvestError, harvest
from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.plan.model import Format, ImportPlan
from pattern_storage.tasks.imports.sources.csv_rows import csv_rows
from pattern_storage.tasks.imports.sources.discovery import SourceFile
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.json_lines import json_lines
from pattern_storage.tasks.imports.sources.parquet import parquet_rows
from pattern_storage.tasks.imports.sources.parser import Parser, Row
from pattern_storage.vocabulary import ErrorType


def read_rows(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    """Return the rows of a file. Raises ImportBroken for a file of another format, and the errors of `Source`."""
    return PARSERS[plan.format](plan, source, file)


def _python(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    try:
        yield from enumerate(harvest(Path(file.path)), start=1)
    except HarvestError as error:
        raise ImportBroken(ErrorType.SOURCE_UNREADABLE, str(error)) from None


PARSERS: dict[Format, Parser] = {"jsonl": json_lines, "csv": csv_rows, "parquet": parquet_rows, "python": _python}
