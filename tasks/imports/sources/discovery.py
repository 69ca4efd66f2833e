"""Discovery of a source's files: local paths with `*`, URLs through fsspec, and trees of Python source."""

import glob
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.vocabulary import ErrorType

#: Keys of etag and modification time in the various file systems of fsspec.
_ETAGS = ("ETag", "etag")
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "Last-Modified")

#: Kinds of local files that have no content to find again, which an import has to.
_SPECIAL = {
    stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


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
        path = urlsplit(self.path).path if "://" in self.path else self.path
        return PurePosixPath(path).suffix.lower()


def find_local(path: str) -> list[SourceFile]:
    """Find a local file, or those that `*` and `**` match: hidden ones and folders are left out, links followed.

    Raises ImportBroken, or OSError.
    """
    if "*" not in path:
        found = _local_file(path)
        if found is None:
            raise _folder(path)
        return [found]
    # Every other character of a path stands for itself.
    pattern = path.replace("[", "[[]").replace("?", "[?]")
    names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # an absolute pattern, which Path.glob refuses
    files = [file for name in names if (file := _local_file(name))]
    return files or _none(path)


def _local_file(name: str) -> SourceFile | None:
    """Return a file, None for a folder. Raises ImportBroken for what is neither."""
    try:
        status = Path(name).stat()
    except FileNotFoundError:
        if not Path(name).is_symlink():
            raise
        target = redact(os.fsdecode(Path(name).readlink()))
        reason = f"{redact(name)} is a symbolic link to {target}, which does not exist"
        raise ImportBroken(ErrorType.SOURCE_MISSING, reason) from None
    if stat.S_ISDIR(status.st_mode):
        return None
    if kind := _SPECIAL.get(stat.S_IFMT(status.st_mode)):
        reason = f"{redact(name)} is {kind}, and an import reads its source more than once; write it to a file first"
        raise ImportBroken(ErrorType.SOURCE_UNREADABLE, reason)
    return SourceFile(name, status.st_size, f"{status.st_size} bytes, {status.st_mtime}")


def find_remote(system: Any, path: str, source: str) -> list[SourceFile]:
    """Find the file, or those that `*` matches, in a file system of fsspec. Raises ImportBroken, or fsspec's errors."""
    if "*" not in path:
        infos = [system.info(path)]
        if infos[0]["type"] == "directory":
            raise _folder(source)
    else:
        found = system.glob(path, detail=True)
        # What is neither file nor folder may be a symbolic link, which `info` follows.
        listed = [found[name] for name in sorted(found) if found[name]["type"] != "directory"]
        infos = [info if info["type"] == "file" else system.info(info["name"]) for info in listed]
        infos = [info for info in infos if info["type"] != "directory"]
    for info in infos:
        if info["type"] != "file":
            raise ImportBroken(ErrorType.SOURCE_UNREADABLE, f"{redact(info['name'])} is no regular file")
    return [SourceFile(info["name"], info.get("size"), _version(info)) for info in infos] or _none(source)


def find_tree(path: str) -> list[SourceFile]:
    """Return a file or folder of Python source as one file, whose version changes with any file in it."""
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(root)
    whole, size = hashlib.sha256(), 0
    for folder, folders, names in os.walk(root) if root.is_dir() else [(str(root.parent), [], [root.name])]:
        folders.sort()
        for name in sorted(names):
            if name.endswith(".py") and (file := Path(folder) / name).is_file():
                status = file.stat()
                size += status.st_size
                whole.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return [SourceFile(str(root), size, f"sha256 {whole.hexdigest()[:32]}")]


def _version(info: dict[str, Any]) -> str | None:
    if etag := next((info[name] for name in _ETAGS if info.get(name)), None):
        return f"etag {etag}"
    changed = next((info[name] for name in _TIMES if info.get(name)), None)
    return None if changed is None or info.get("size") is None else f"{info['size']} bytes, {changed}"


def _none(source: str) -> list[SourceFile]:
    raise ImportBroken(ErrorType.SOURCE_MISSING, f"{redact(source)} matches no file")


def _folder(source: str) -> ImportBroken:
    return ImportBroken(ErrorType.SOURCE_MISSING, f"{redact(source)} is a folder; name its files with '/*'")
