"""Type of the parsers of all formats and of their rows, and checks and errors that they share."""

from collections.abc import Callable, Iterator
from typing import IO, Any

from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.sources.discovery import SourceFile
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.streams import MAGIC
from pattern_storage.vocabulary import ErrorType

#: Limit of the bytes of one line, or of one CSV value. The largest valid pattern is smaller.
MAX_LINE_BYTES = 16 * 1024 * 1024

#: A row: its number from 1 (of a line in JSON and CSV, of a row in Parquet and Python), and its content: one line of
#: JSON, values by column, or an error.
Row = tuple[int, bytes | dict[str, Any] | ValueError]
Parser = Callable[[ImportPlan, Source, SourceFile], Iterator[Row]]

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def broken(file: SourceFile, reason: str) -> ImportBroken:
    """Return the error of a file that cannot be parsed to its end."""
    return ImportBroken(ErrorType.SOURCE_UNREADABLE, f"{file.display_name} cannot be read to its end: {reason}")


def refuse_binary(stream: IO[bytes], file: SourceFile) -> None:
    """Raise ImportBroken if a file that should be text begins like UTF-16 or like a compressed file."""
    first = stream.peek(4) if hasattr(stream, "peek") else b""
    if first.startswith(_UTF16):
        raise broken(file, "it is UTF-16; save it as UTF-8")
    for suffix, magics in MAGIC.items():
        if suffix != ".bz2" and first.startswith(magics):
            raise broken(file, f"it is compressed; its name should end with {suffix}")
