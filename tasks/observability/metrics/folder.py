"""The temporary folder of a worker's metrics, and those that killed workers have left.

The main process holds a lock on a file in its folder. Its children inherit that, and the kernel releases it when the
last of them has ended, however it ended. No process id is compared: it may belong to another process by now, or to the
same one in another container.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX = "pattern-storage-metrics-"
LOCK = "lock"


def make_folder() -> Path:
    """Make a folder that stays for as long as this process or a child that it forks lives."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    new = folder / "new-lock"
    # Never closed.
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    # Where the file system has no locks the folder stays when the worker is killed.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Under this name it is locked from the beginning.
        new.rename(folder / LOCK)
    return folder


def remove_stale_folders() -> None:
    """Remove the folders of this user whose processes have all ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # What another process removes meanwhile is gone; what cannot be removed stays.
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
