"""Directories that the servers can enter, and private files."""

import contextlib
import os
import secrets
from pathlib import Path

from pattern_storage.embedded.account import Account
from pattern_storage.embedded.errors import DirectoryUnusable, EmbeddedError

#: Others, of whom one is the servers' account, may pass through it and not list it.
PASSABLE = 0o711
PRIVATE = 0o700


def make_directory(path: Path, account: Account, *, ours: str) -> None:
    """Create a directory with its parents, absolute, and make sure that `account` can enter it.

    Only a directory that is new, empty, or has the file `ours` from an earlier run is opened for others to pass: the
    mode of any other is left alone. Raises DirectoryUnusable.
    """
    mode = PASSABLE if account.switched else PRIVATE
    try:
        for parent in reversed(path.parents):
            if not parent.exists():
                parent.mkdir(mode, exist_ok=True)
                parent.chmod(mode)  # mkdir's mode is cut by the umask
        path.mkdir(mode, exist_ok=True)
        if (path / ours).exists() or not any(path.iterdir()):
            path.chmod(mode if account.switched else path.stat().st_mode & 0o777 & ~0o022)
    except OSError as error:
        raise DirectoryUnusable(
            f"Cannot create the data directory {path}: {error.strerror} ({error.filename}). "
            "Choose another with PATTERN_STORAGE_DATA_DIR."
        ) from error
    if closed := account.first_closed_directory(path):
        raise DirectoryUnusable(
            f"The servers run as `nobody` when root starts them, and `nobody` cannot enter {closed}: choose a data "
            "directory outside of it with PATTERN_STORAGE_DATA_DIR (/var/lib/pattern-storage, for example), "
            "or run as an ordinary user."
        )


def make_server_directory(path: Path, account: Account) -> None:
    """Create a directory that belongs to the server's account and is closed to all others.

    Raises EmbeddedError if it exists and belongs to another user.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(PRIVATE)
        if account.switched:
            os.chown(path, account.uid, account.gid)
    if (owner := path.stat().st_uid) != account.uid:
        raise EmbeddedError(
            f"{path} belongs to user {owner}, but the server would run as user {account.uid}: "
            "run as the user who created it, or choose another data directory."
        )


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Replace a file in one step, readable by its owner alone: the current user, or `account`."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
        if account and account.switched:
            os.fchown(descriptor, account.uid, account.gid)
    new.replace(path)


def read_or_create_secret(path: Path) -> str:
    """Return the password in the file; a new one is written if there is none."""
    with contextlib.suppress(FileNotFoundError):
        if text := path.read_text(encoding="utf-8").strip():
            return text
    password = secrets.token_urlsafe(24)
    write_private(path, password + "\n")
    return password
