"""A row as a format's parser yields it, and the errors that all parsers share."""

from collections.abc import Callable, Iterator
from typing import IO, Any

from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.sources.discovery import SourceFile
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.streams import MAGIC
from pattern_storage.vocabulary import ErrorType

#: Bytes of one line, or one CSV value, at most. The largest pattern that fits its limits is smaller.
MAX_LINE_BYTES = 16 * 1024 * 1024

#: A row: its number, counted from 1 (lines of JSON and CSV, rows of Parquet and Python), and its content: a line of
#: JSON, values by column, or an error.
Row = tuple[int, bytes | dict[str, Any] | ValueError]
Parser = Callable[[ImportPlan, Source, SourceFile], Iterator[Row]]

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def broken(file: SourceFile, reason: str) -> ImportBroken:
    """Return the error of a file that cannot be parsed to its end."""
    return ImportBroken(ErrorType.SOURCE_UNREADABLE, f"{file.display_name} cannot be read to its end: {reason}")


def refuse_binary(stream: IO[bytes], file: SourceFile) -> None:
    """Raise ImportBroken if a file that should be text begins as UTF-16 or as a compressed file does."""
    first = stream.peek(4) if hasattr(stream, "peek") else b""
    if first.startswith(_UTF16):
        raise broken(file, "it is UTF-16; save it as UTF-8")
    for suffix, magics in MAGIC.items():
        if suffix != ".bz2" and first.startswith(magics):
            raise broken(file, f"it is compressed; its name should end with {suffix}")
