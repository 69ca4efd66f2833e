"""Byte streams of source files: counted, and decompressed by the file's suffix."""

import bz2
import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.sources.discovery import SourceFile
from pattern_storage.tasks.imports.sources.errors import translate_errors
from pattern_storage.vocabulary import ErrorType

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Bytes of one read.
BLOCK = 1 << 20

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".zst": zstd.open}
#: The first bytes of each. A zstd file may begin with a skippable frame, as those of pzstd do.
MAGIC: dict[str, tuple[bytes, ...]] = {
    ".gz": (b"\x1f\x8b",), ".bz2": (b"BZh",),
    ".zst": (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))),
}  # fmt: skip
COMPRESSED = frozenset(_OPENERS)
_CORRUPT = (EOFError, OSError, zlib.error, zstd.ZstdError)


class CountedStream(io.RawIOBase):
    """Raw stream that reports the bytes read to a callback and translates errors of the source.

    The errors of a decompressor, which reads from this stream, are not translated here.
    """

    def __init__(self, raw: Any, path: str, count: Callable[[int], None]) -> None:
        self._raw, self._path, self._count = raw, path, count

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to the buffer's size. Raises ImportFailed."""
        with translate_errors(self._path):
            data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        self._count(len(data))
        return len(data)


@contextmanager
def decompressed(stream: "io.BufferedReader[Any]", file: SourceFile, *, over_http: bool) -> Iterator[IO[bytes]]:
    """Open the stream, decompressed by the file's suffix. Raises ImportBroken if it is truncated or corrupt.

    Over HTTP a compressed file may have been decompressed already: a server that sends a `.gz` with `Content-Encoding:
    gzip` means the compression of the file itself, and the HTTP client undoes it.
    """
    opener = _OPENERS.get(file.suffix)
    if opener is None or (over_http and not stream.peek(4).startswith(MAGIC[file.suffix])):
        yield stream
        return
    with opener(stream, "rb") as plain:
        try:
            yield plain
        except _CORRUPT as error:
            reason = f"{file.display_name} is not whole, or no {file.suffix} file: {error}"
            raise ImportBroken(ErrorType.SOURCE_UNREADABLE, reason) from None
