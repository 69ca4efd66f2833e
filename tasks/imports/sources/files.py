"""Files of a source, local or at a URL through fsspec: discovery, versions, opening, decompression.

Everything here blocks, and runs in a thread of its own beside the event loop.
"""

import bz2
import gzip
import hashlib
import io
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import aiohttp
import fsspec

from pattern_storage.extras import ExtraMissing, extra_of
from pattern_storage.tasks.errors import ImportBroken, ImportDelayed
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.tasks.imports.sources.errors import translate_errors
from pattern_storage.vocabulary import ErrorType

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: Bytes of one read.
BLOCK = 1 << 20

#: HTTP timeouts in seconds, to connect and between two reads; a download that goes on has none.
HTTP_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)

#: Keys of etag and modification time in the various file systems of fsspec.
_ETAGS = ("ETag", "etag")
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "Last-Modified")

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".zst": zstd.open}
_CORRUPT = (EOFError, OSError, zlib.error, zstd.ZstdError)


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `size` in bytes as stored, None if unknown; `version` changes with its content."""

    path: str
    size: int | None
    version: str | None

    @property
    def display_name(self) -> str:
        """The path, redacted."""
        return redact(self.path)

    @property
    def suffix(self) -> str:
        """The suffix that tells the compression, such as ".gz"."""
        return Path(urlsplit(self.path).path if "://" in self.path else self.path).suffix


class Source:
    """The files of one plan.

    Raises (each method):
        ImportBroken: nothing is there, or it cannot be read.
        ImportDelayed: its server does not answer, or it is being changed at this moment.
    """

    def __init__(self, plan: ImportPlan) -> None:
        self._plan = plan
        #: Bytes read of the files as they are stored.
        self.bytes_read = 0
        #: Rows of all files, None if unknown before their end.
        self.rows: int | None = None
        options = {"client_kwargs": {"timeout": HTTP_TIMEOUT}} if plan.source.startswith("http") else {}
        with translate_errors(plan.source):
            try:
                self._system, self._path = fsspec.core.url_to_fs(plan.source, **options)
            except (ImportError, ValueError) as error:  # a protocol that needs another package, or that there is not
                reason: Exception = error
                # fsspec says which module it lacks by the cause alone.
                if extra := extra_of(getattr(error.__cause__, "name", None)):
                    reason = ExtraMissing("its protocol", extra)
                raise ImportBroken(
                    ErrorType.SOURCE_UNREADABLE, f"{redact(plan.source)} cannot be read: {reason}"
                ) from None
        self.files = self._find()

    @property
    def size(self) -> int | None:
        """Bytes of all files as they are stored, None if unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(filter(None, sizes))

    @property
    def is_local(self) -> bool:
        """Whether the files are files of this machine."""
        return "file" in (self._system.protocol if isinstance(self._system.protocol, tuple) else ())

    def set_row_count(self, rows: int) -> None:
        """Set the row count from a file's metadata; with several files the sum is unknown before the last is opened."""
        self.rows = rows if len(self.files) == 1 else None

    def version(self) -> str:
        """Return a text that changes with the content: an etag, or size and time, or a checksum of everything."""
        versions = [file.version or self._checksum(file) for file in self.files]
        if len(versions) == 1:
            return versions[0]
        whole = hashlib.sha256("\n".join(f"{f.path} {v}" for f, v in zip(self.files, versions, strict=True)).encode())
        return f"{len(versions)} files, sha256 {whole.hexdigest()[:32]}"

    def check_unchanged(self) -> None:
        """Raise ImportDelayed if a file was changed, came or went since it was found."""
        before = {file.path: (file.size, file.version) for file in self.files}
        for file in self._find():
            if before.pop(file.path, None) != (file.size, file.version):
                raise ImportDelayed(ErrorType.SOURCE_CHANGED, f"{file.display_name} was changed while it was read")
        for path in before:
            raise ImportDelayed(ErrorType.SOURCE_CHANGED, f"{redact(path)} vanished while it was read")

    @contextmanager
    def open(self, file: SourceFile) -> Iterator[IO[bytes]]:
        """Open a file for reading from its beginning to its end, decompressed as its suffix says."""
        with translate_errors(file.path):
            # HTTP without blocks is one request, which servers without ranges answer as well.
            raw = self._system.open(file.path, "rb", **({"block_size": 0} if file.path.startswith("http") else {}))
        with raw, io.BufferedReader(_Counted(self, raw, file), BLOCK) as stream:
            if file.suffix not in _OPENERS:
                yield stream
                return
            with _OPENERS[file.suffix](stream, "rb") as plain:
                try:
                    yield plain
                except _CORRUPT as error:
                    reason = f"{file.display_name} is not whole, or no {file.suffix} file: {error}"
                    raise ImportBroken(ErrorType.SOURCE_UNREADABLE, reason) from None

    @contextmanager
    def open_seekable(self, file: SourceFile) -> Iterator[IO[bytes]]:
        """Open a file for random access: itself if it is a plain local file, else a temporary copy in TMPDIR."""
        if self.is_local and file.suffix not in _OPENERS:
            with ExitStack() as opened:
                with translate_errors(file.path):
                    itself = opened.enter_context(Path(file.path).open("rb"))
                self.bytes_read += file.size or 0
                yield itself
            return
        with tempfile.TemporaryFile() as copy:
            with self.open(file) as stream:
                shutil.copyfileobj(stream, copy, BLOCK)
            yield copy

    def _find(self) -> list[SourceFile]:
        with translate_errors(self._plan.source):
            self._system.invalidate_cache()
            if self._plan.format == "python":
                return [self._tree()]
            if "*" in self._path:
                found = self._system.glob(self._path, detail=True)
                infos = [found[name] for name in sorted(found) if found[name]["type"] == "file"]
            else:
                infos = [self._system.info(self._path)]
        if not infos:
            raise ImportBroken(ErrorType.SOURCE_MISSING, f"{redact(self._plan.source)} matches no file")
        if infos[0]["type"] == "directory":
            raise ImportBroken(
                ErrorType.SOURCE_MISSING, f"{redact(self._plan.source)} is a folder; name its files with '/*'"
            )
        return [SourceFile(info["name"], info.get("size"), _version(info)) for info in infos]

    def _tree(self) -> SourceFile:
        """Return a file or folder of Python source as one file."""
        root = Path(self._path)
        if not self.is_local:
            raise ImportBroken(
                ErrorType.SOURCE_UNREADABLE, f"{redact(self._plan.source)} is not local, as Python source has to be"
            )
        if not root.exists():
            raise FileNotFoundError(root)
        whole, size = hashlib.sha256(), 0
        for folder, folders, names in os.walk(root) if root.is_dir() else [(str(root.parent), [], [root.name])]:
            folders.sort()
            for name in sorted(names):
                if name.endswith(".py") and (path := Path(folder) / name).is_file():
                    status = path.stat()
                    size += status.st_size
                    whole.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return SourceFile(str(root), size, f"sha256 {whole.hexdigest()[:32]}")

    def _checksum(self, file: SourceFile) -> str:
        before = self.bytes_read
        with self.open(file) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        self.bytes_read = before
        return f"sha256 {digest[:32]}"


class _Counted(io.RawIOBase):
    """Raw stream that counts bytes, and translates errors of the source, apart from those of a decompressor."""

    def __init__(self, source: Source, raw: Any, file: SourceFile) -> None:
        self._source, self._raw, self._file = source, raw, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with translate_errors(self._file.path):
            data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        self._source.bytes_read += len(data)
        return len(data)


def _version(info: dict[str, Any]) -> str | None:
    if etag := next((info[name] for name in _ETAGS if info.get(name)), None):
        return f"etag {etag}"
    changed = next((info[name] for name in _TIMES if info.get(name)), None)
    return None if changed is None or info.get("size") is None else f"{info['size']} bytes, {changed}"
