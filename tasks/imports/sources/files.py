"""Source of an import: finds, versions and opens its files, which are local or at a URL of fsspec.

All of it blocks, and runs in a thread beside the event loop.
"""

import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import aiohttp
import fsspec

from pattern_storage.extras import ExtraMissing, extra_of
from pattern_storage.tasks.errors import ImportBroken, ImportDelayed
from pattern_storage.tasks.imports.location import local_path
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.tasks.imports.sources.discovery import SourceFile, find_local, find_remote, find_tree
from pattern_storage.tasks.imports.sources.errors import translate_errors
from pattern_storage.tasks.imports.sources.streams import BLOCK, COMPRESSED, CountedStream, decompressed
from pattern_storage.vocabulary import ErrorType

#: HTTP timeouts in seconds, to connect and between two reads; a whole download has none.
HTTP_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)


class Source:
    """The files of one plan.

    Raises (each method):
        ImportBroken: the source does not exist, or cannot be read.
        ImportDelayed: its server does not answer, or it was changed meanwhile.
    """

    def __init__(self, plan: ImportPlan) -> None:
        self._plan = plan
        #: Bytes read so far, of the files as they are stored.
        self.bytes_read = 0
        #: Rows of all files, None if unknown before the end of the last.
        self.rows: int | None = None
        self._local = local_path(plan.source)
        if self._local is None:
            self._connect()
        self.files = self._find()

    @property
    def size(self) -> int | None:
        """Bytes of all files as they are stored, None if unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(filter(None, sizes))

    def set_row_count(self, rows: int) -> None:
        """Set the row count from a file's metadata; with several files the sum is unknown before the last is opened."""
        self.rows = rows if len(self.files) == 1 else None

    def version(self) -> str:
        """Return a text that changes with the content: an etag, size and time, or a checksum of all bytes."""
        versions = [file.version or self._checksum(file) for file in self.files]
        if len(versions) == 1:
            return versions[0]
        lines = [f"{file.path} {version}" for file, version in zip(self.files, versions, strict=True)]
        whole = hashlib.sha256("\n".join(lines).encode(errors="surrogateescape"))
        return f"{len(versions)} files, sha256 {whole.hexdigest()[:32]}"

    def check_unchanged(self) -> None:
        """Raise ImportDelayed if a file was changed, added or removed since the files were found."""
        before = {file.path: (file.size, file.version) for file in self.files}
        for file in self._find():
            if before.pop(file.path, None) != (file.size, file.version):
                reason = f"{file.display_name} was changed while it was read"
                raise ImportDelayed(ErrorType.SOURCE_CHANGED, reason)
        for path in before:
            raise ImportDelayed(ErrorType.SOURCE_CHANGED, f"{redact(path)} vanished while it was read")

    @contextmanager
    def open(self, file: SourceFile) -> Iterator[IO[bytes]]:
        """Open a file for reading from its beginning to its end, decompressed as its suffix says."""
        over_http = self._local is None and file.path.startswith("http")
        with translate_errors(file.path):
            if self._local is not None:
                raw: Any = Path(file.path).open("rb", buffering=0)  # noqa: SIM115  # closed below
            else:
                # HTTP without blocks is one request, which servers without ranges answer as well.
                raw = self._system.open(file.path, "rb", **({"block_size": 0} if over_http else {}))
        counted = CountedStream(raw, file.path, self._count)
        with (
            raw,
            io.BufferedReader(counted, BLOCK) as stream,
            decompressed(stream, file, over_http=over_http) as plain,
        ):
            yield plain

    @contextmanager
    def open_seekable(self, file: SourceFile) -> Iterator[IO[bytes]]:
        """Open a file for random access: a plain local file as it is, any other as a temporary copy in TMPDIR."""
        if self._local is not None and file.suffix not in COMPRESSED:
            with translate_errors(file.path):
                plain = Path(file.path).open("rb")  # noqa: SIM115  # closed below
            with plain:
                self.bytes_read += file.size or 0
                yield plain
            return
        with tempfile.TemporaryFile() as copy:
            with self.open(file) as stream:
                shutil.copyfileobj(stream, copy, BLOCK)
            yield copy

    def _connect(self) -> None:
        options = {"client_kwargs": {"timeout": HTTP_TIMEOUT}} if self._plan.source.startswith("http") else {}
        with translate_errors(self._plan.source):
            try:
                self._system, self._path = fsspec.core.url_to_fs(self._plan.source, **options)
            except (ImportError, ValueError) as error:  # a protocol that needs another package, or an unknown one
                reason: Exception = error
                # Only the cause of fsspec's error has the name of the missing module.
                if extra := extra_of(getattr(error.__cause__, "name", None)):
                    reason = ExtraMissing("its protocol", extra)
                sentence = f"{redact(self._plan.source)} cannot be read: {reason}"
                raise ImportBroken(ErrorType.SOURCE_UNREADABLE, sentence) from None

    def _find(self) -> list[SourceFile]:
        with translate_errors(self._plan.source):
            if self._plan.format == "python":
                if self._local is None:
                    reason = f"{redact(self._plan.source)} is not local, as Python source has to be"
                    raise ImportBroken(ErrorType.SOURCE_UNREADABLE, reason)
                return find_tree(self._local)
            if self._local is not None:
                return find_local(self._local)
            self._system.invalidate_cache()
            return find_remote(self._system, self._path, self._plan.source)

    def _count(self, size: int) -> None:
        self.bytes_read += size

    def _checksum(self, file: SourceFile) -> str:
        before = self.bytes_read
        with self.open(file) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        self.bytes_read = before
        return f"sha256 {digest[:32]}"
