"""Log file of a server, and the part of it that belongs to the last start."""

import os
from pathlib import Path
from typing import TextIO

#: Bytes after which the next start sets the file aside.
LIMIT = 10_000_000
#: Lines that an error message shows.
SHOWN = 12


class ServerLog:
    """A log file that grows over many starts, and the position in it where the last one began."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0

    def open(self) -> TextIO:
        """Open it for a program that is about to start. One older file is kept, as `<name>.1`."""
        if self.path.exists() and self.path.stat().st_size > LIMIT:
            self.path.replace(self.path.with_name(self.path.name + ".1"))
        file = self.path.open("a", encoding="utf-8")
        os.fchmod(file.fileno(), 0o600)  # statements with their values can end up here
        self._start = file.tell()
        return file

    def tail(self) -> str:
        """Return the last lines written since the last `open`; an empty text if there are none."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._start, size - 8192))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.strip().splitlines()[-SHOWN:])
