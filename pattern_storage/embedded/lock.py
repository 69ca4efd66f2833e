"""Lock of a directory, which the kernel releases when its holder dies, however it dies."""

import fcntl
import os
import time
import weakref
from pathlib import Path

from pattern_storage.embedded.errors import DirectoryUnusable, EmbeddedError, StackAlreadyRunning

#: Seconds for which `acquire` tries again: `is_taken` has the lock for a moment when it looks.
PATIENCE = 0.25

_held: "weakref.WeakSet[DirectoryLock]" = weakref.WeakSet()


class DirectoryLock:
    """`flock` on a file in a directory, with the id of the process that holds it written in it.

    The file stays when the lock is released: removing it would let two processes lock two different files of the same
    name.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock, unless this object holds it.

        Raises:
            StackAlreadyRunning: Another living process, or another object in this one, holds it.
            DirectoryUnusable: The file cannot be opened.
        """
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DirectoryUnusable(
                f"Cannot open {self._file}: {error.strerror}. Choose another data directory."
            ) from error
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = _process_id(descriptor)
                    os.close(descriptor)
                    raise StackAlreadyRunning(self._file.parent, holder) from None
                time.sleep(0.005)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        """Release the lock if this object holds it."""
        if self._descriptor is not None:
            # Closing, never LOCK_UN: in a forked child LOCK_UN would release the parent's lock.
            os.close(self._descriptor)
            self._descriptor = None
            _held.discard(self)

    @staticmethod
    def is_taken(file: Path) -> bool:
        """Return whether a living process holds the lock on `file`. Raises EmbeddedError if it cannot be read."""
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise EmbeddedError(f"Cannot read {file}: {error.strerror}. Run as the user who owns it.") from error
        try:
            # Shared, so that two processes that look do not take each other for a holder.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)


def _process_id(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _release_in_child() -> None:
    for lock in list(_held):
        lock.release()


# A child forked without exec inherits the descriptor and would keep the lock after the parent's death.
os.register_at_fork(after_in_child=_release_in_child)
