"""Parser of CSV: a header line, then one row of values each."""

import csv
import io
from collections.abc import Iterator
from typing import IO

from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.sources.discovery import SourceFile
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.mapping import Mapping
from pattern_storage.tasks.imports.sources.parser import MAX_LINE_BYTES, Row, broken, refuse_binary

#: Separators of values that files called CSV have, and their names.
DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}

#: The characters with which `surrogateescape` represents bytes that are not UTF-8.
_FIRST_SURROGATE, _LAST_SURROGATE = "\udc80", "\udcff"


def csv_rows(plan: ImportPlan, source: Source, file: SourceFile) -> Iterator[Row]:
    """Yield the rows of a file. Raises ImportFailed."""
    csv.field_size_limit(MAX_LINE_BYTES)
    with source.open(file) as stream:
        refuse_binary(stream, file)
        # A byte that is not UTF-8 spoils its row, not the file; the row's number is that of its first line.
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        lines = csv.reader(_bounded(text, file), delimiter=plan.delimiter, strict=True)
        header = _header(lines, file)
        mapping = _mapping(plan, header, file)
        number = lines.line_num + 1
        while True:
            try:
                values = next(lines, None)
            except csv.Error as error:
                # The text after an open quote cannot be divided into rows any more.
                if "unexpected end of data" in str(error) or "field limit" in str(error):
                    raise broken(file, f"line {number}: {error}") from None
                yield number, ValueError(str(error))
            else:
                if values is None:
                    return
                if values:
                    yield number, _row(mapping, header, values)
            number = lines.line_num + 1


def _header(lines: "Iterator[list[str]]", file: SourceFile) -> list[str]:
    try:
        header = next(lines, None)
    except csv.Error as error:
        raise broken(file, f"line 1: {error}") from None
    if not header:
        raise broken(file, "it has no header line")
    if any(map(_bad_byte, header)):
        raise broken(file, "line 1: it is not UTF-8")
    if any(sign < " " and sign not in "\t\r\n" for name in header for sign in name):
        raise broken(file, "line 1: it is not text")
    return header


def _mapping(plan: ImportPlan, header: list[str], file: SourceFile) -> Mapping:
    try:
        return Mapping(plan, header, file=file.display_name)
    except ImportBroken as error:
        others = {sign: name for sign, name in DELIMITERS.items() if sign != plan.delimiter and sign in header[0]}
        if len(header) > 1 or not others:
            raise
        # The commonest cause of a single unknown column.
        sign, name = max(others.items(), key=lambda item: header[0].count(item[0]))
        hint = f"its values seem to be separated by {name}: set delimiter to {sign!r}"
        raise ImportBroken(error.error_type, f"{file.display_name} has one column; {hint}") from None


def _row(mapping: Mapping, header: list[str], values: list[str]) -> "dict[str, object] | ValueError":
    if len(values) != len(header):
        return ValueError(f"it has {len(values)} values, but the header has {len(header)}")
    for name, value in zip(header, values, strict=True):
        if not value.isascii() and (byte := _bad_byte(value)):
            return ValueError(f"{name} is not UTF-8: it has the byte 0x{byte:02x}")
    try:
        return mapping.from_csv(values)
    except ValueError as error:
        return error


def _bad_byte(text: str) -> int | None:
    """Return the first byte of the text that was not UTF-8."""
    return next((ord(sign) - 0xDC00 for sign in text if _FIRST_SURROGATE <= sign <= _LAST_SURROGATE), None)


def _bounded(text: IO[str], file: SourceFile) -> Iterator[str]:
    while line := text.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise broken(file, f"a line is longer than {MAX_LINE_BYTES:,} characters")
        yield line
