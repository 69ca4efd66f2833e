"""Account that runs the servers: ours, or `nobody` when we are root, which PostgreSQL refuses."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from pattern_storage.embedded.errors import EmbeddedError

__all__ = ["Account", "server_account"]


@dataclass(frozen=True, slots=True)
class Account:
    """A user and its group, by number.

    Attributes:
        uid: Number of the user.
        gid: Number of its primary group.
        switched: True when this is not who we are, so that files have to be handed over.
    """

    uid: int
    gid: int
    switched: bool

    def first_closed_directory(self, path: Path) -> Path | None:
        """The outermost directory on the way to `path` that this account cannot enter, or None.

        Looks at mode bits only: an access control list that grants more is not seen.
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
        """Whether this account can reach, read and execute a file; by mode bits, like `first_closed_directory`."""
        if not self.switched:
            return True
        everyone = stat.S_IROTH | stat.S_IXOTH
        return self.first_closed_directory(program.parent) is None and program.stat().st_mode & everyone == everyone

    def take(self, path: Path) -> None:
        """Make this account the owner of one file or directory; nothing to do when it is us."""
        if self.switched:
            os.chown(path, self.uid, self.gid)


def server_account() -> Account:
    """Who the servers run as.

    Raises:
        EmbeddedError: We are root and this system has no user `nobody`.
    """
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
