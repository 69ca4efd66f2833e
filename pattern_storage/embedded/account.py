"""Account that the servers run as: the current user, or `nobody` in place of root, which PostgreSQL refuses."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from pattern_storage.embedded.errors import EmbeddedError


@dataclass(frozen=True, slots=True)
class Account:
    """A user and its primary group, by number.

    `switched` is true where it is not the current user, so that files have to be handed over to it.
    """

    uid: int
    gid: int
    switched: bool

    def first_closed_directory(self, path: Path) -> Path | None:
        """Return the outermost directory on the way to `path` that this account cannot enter, or None.

        It reads the mode bits only: an access control list that grants more is not seen.
        """
        if not self.switched:
            return None
        for directory in [*reversed(path.parents), path]:
            if not directory.is_dir():
                break
            info = directory.stat()
            if info.st_uid == self.uid:
                needed = stat.S_IXUSR
            elif info.st_gid == self.gid:
                needed = stat.S_IXGRP
            else:
                needed = stat.S_IXOTH
            if not info.st_mode & needed:
                return directory
        return None

    def can_run(self, program: Path) -> bool:
        """Return whether this account can reach, read and execute a file; by mode bits, like the method above."""
        if not self.switched:
            return True
        everyone = stat.S_IROTH | stat.S_IXOTH
        return self.first_closed_directory(program.parent) is None and program.stat().st_mode & everyone == everyone


def server_account() -> Account:
    """Return the account that the servers run as. Raises EmbeddedError for root where there is no user `nobody`."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switched=False)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root and this system has no user `nobody` to run it as: "
            "run as an ordinary user, or set DATABASE_URL and REDIS_URL to servers of your own."
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid, switched=True)
