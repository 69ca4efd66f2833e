"""Errors of the embedded servers.

EmbeddedError
├── DirectoryUnusable        the data directory cannot be created or entered
├── ProgramMissing           there is no PostgreSQL or Valkey on this machine
└── StackAlreadyRunning      another process holds the directory
"""

from pathlib import Path


class EmbeddedError(Exception):
    """An embedded server could not do what was asked: the message says what failed, where, and what to do."""


class DirectoryUnusable(EmbeddedError):
    """The data directory cannot be created or entered: another one has to be chosen."""


class ProgramMissing(EmbeddedError):
    """The program of a server is neither in a wheel nor on PATH: the extra `embedded` brings both."""


class StackAlreadyRunning(EmbeddedError):
    """Another living process holds the directory.

    Attributes:
        directory: The directory that was asked for.
        pid: The process that holds it; None if it did not write its id.
    """

    def __init__(self, directory: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{directory} is in use by {holder}: use the servers that run there, stop them first, "
            "or choose another data directory."
        )
        self.directory = directory
        self.pid = pid
