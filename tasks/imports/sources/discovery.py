"""Discovery of a source's files: local paths with `*`, URLs through fsspec, and trees of Python source."""

import glob
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pattern_storage.tasks.errors import ImportBroken
from pattern_storage.tasks.imports.location import suffixes
from pattern_storage.tasks.imports.redaction import redact
from pattern_storage.vocabulary import ErrorType

#: Keys of etag and modification time in the various file systems of fsspec.
_ETAGS = ("ETag", "etag")
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "Last-Modified")

#: Kinds of local files that can be read only once.
_SPECIAL = {
    stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip

IS_FOLDER = "is a folder; name its files with '/*'"


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `size` is in bytes as stored, None if unknown; `version` changes with the content."""

    path: str
    size: int | None
    version: str | None

    @property
    def display_name(self) -> str:
        """The path, redacted."""
        return redact(self.path)

    @property
    def suffix(self) -> str:
        """The last suffix, in lower case, such as ".gz" of a compressed file."""
        return (suffixes(self.path) or [""])[-1]


def find_local(path: str) -> list[SourceFile]:
    """Find a local file, or those that `*` and `**` match, without hidden ones and folders; links are followed.

    Raises ImportBroken, or OSError.
    """
    if "*" not in path:
        file = _local_file(path)
        if file is None:
            raise _missing(path, IS_FOLDER)
        return [file]
    # Every other character of a path stands for itself.
    pattern = path.replace("[", "[[]").replace("?", "[?]")
    names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # an absolute pattern, which Path.glob refuses
    files = [file for name in names if (file := _local_file(name))]
    if not files:
        raise _missing(path, "matches no file")
    return files


def _local_file(name: str) -> SourceFile | None:
    """Return a file, None for a folder. Raises ImportBroken for anything else."""
    try:
        status = Path(name).stat()
    except FileNotFoundError:
        if not Path(name).is_symlink():
            raise
        target = redact(os.fsdecode(Path(name).readlink()))
        raise _missing(name, f"is a symbolic link to {target}, which does not exist") from None
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
            raise _missing(source, IS_FOLDER)
    else:
        matches = system.glob(path, detail=True)
        listed = [matches[name] for name in sorted(matches) if matches[name]["type"] != "directory"]
        # An entry that is no file may be a symbolic link, which `info` follows.
        infos = [info if info["type"] == "file" else system.info(info["name"]) for info in listed]
        infos = [info for info in infos if info["type"] != "directory"]
        if not infos:
            raise _missing(source, "matches no file")
    for info in infos:
        if info["type"] != "file":
            raise ImportBroken(ErrorType.SOURCE_UNREADABLE, f"{redact(info['name'])} is no regular file")
    return [SourceFile(info["name"], info.get("size"), _version(info)) for info in infos]


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


def _missing(source: str, reason: str) -> ImportBroken:
    return ImportBroken(ErrorType.SOURCE_MISSING, f"{redact(source)} {reason}")
