"""Parsers of the import formats: JSON Lines, CSV, Parquet, and Python source."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from pattern_storage.extract import HarvestError, harvest
from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.plan.model import Format, ImportPlan
from pattern_storage.tasks.imports.sources.files import BLOCK, Source, SourceFile
from pattern_storage.tasks.imports.sources.mapping import Mapping
from pattern_storage.vocabulary import ErrorType

#: Bytes of one line, or one CSV value, at most. The largest pattern that fits its limits is smaller.
MAX_LINE_BYTES = 16 * 1024 * 1024

#: A row: its number, counted from 1 (lines of JSON and CSV, rows of Parquet and Python), and its content: a line of
#: JSON, values by column, or an error.
Row = tuple[int, bytes | dict[str, Any] | ValueError]
Reader = Callable[[ImportPlan, Source, SourceFile], Iterator[Row]]


def read_rows(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    """Yield the rows of a file. Raises ImportBroken if it is no file of this format, and what `Source` raises."""
    yield from READERS[plan.format](plan, source, file)


def _json_lines(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    with source.open(file) as stream:
        number = 0
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise _broken(file, f"line {number} is longer than {MAX_LINE_BYTES:,} bytes")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.isspace():
                # Without its end, an error in it is in the first line of what is read, which says nothing new.
                yield number, line.rstrip(b"\r\n")


def _csv(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE_BYTES)
    with source.open(file) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        lines = csv.reader(_bounded(text, file), delimiter=plan.delimiter, strict=True)
        try:
            header = next(lines, None)
            if not header:
                raise _broken(file, "it has no header line")
            mapping = Mapping(plan, header, shown=file.display_name)
            # A row may span lines: it is known by its first.
            number = lines.line_num + 1
            for values in lines:
                if values and len(values) != len(header):
                    yield number, ValueError(f"it has {len(values)} values, but the header has {len(header)}")
                elif values:
                    try:
                        yield number, mapping.from_csv(values)
                    except ValueError as error:
                        yield number, error
                number = lines.line_num + 1
        except (csv.Error, UnicodeDecodeError) as error:
            raise _broken(file, f"line {lines.line_num + 1}: {error}") from None


def _bounded(text: IO[str], file: SourceFile) -> Iterator[str]:
    while line := text.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise _broken(file, f"a line is longer than {MAX_LINE_BYTES:,} characters")
        yield line


def _parquet(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        message = "Parquet needs pyarrow: pip install 'pattern-storage[parquet]'"
        raise ImportBroken(ErrorType.SOURCE_UNREADABLE, message) from None
    with source.open_seekable(file) as whole:
        try:
            # Without a pre-buffer, and with small buffers: else a whole row group is in memory.
            with pyarrow.parquet.ParquetFile(whole, buffer_size=BLOCK // 4, pre_buffer=False) as table:
                mapping = Mapping(plan, table.schema_arrow.names, shown=file.display_name)
                source.set_row_count(table.metadata.num_rows)
                number = 0
                for batch in table.iter_batches(batch_size=512, columns=mapping.names, use_threads=False):
                    for values in batch.to_pylist():
                        number += 1
                        try:
                            yield number, mapping.from_parquet(values)
                        except ValueError as error:
                            yield number, error
        except (pyarrow.ArrowException, OSError) as error:
            raise _broken(file, " ".join(str(error).split())) from None


def _python(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    try:
        yield from enumerate(harvest(Path(file.path)), start=1)
    except HarvestError as error:
        raise ImportBroken(ErrorType.SOURCE_UNREADABLE, str(error)) from None


def _broken(file: SourceFile, reason: str) -> ImportBroken:
    return ImportBroken(ErrorType.SOURCE_UNREADABLE, f"{file.display_name} cannot be read to its end: {reason}")


READERS: dict[Format, Reader] = {"jsonl": _json_lines, "csv": _csv, "parquet": _parquet, "python": _python}
