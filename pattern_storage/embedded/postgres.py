"""Embedded PostgreSQL server."""

import contextlib
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from pattern_storage.embedded.account import Account
from pattern_storage.embedded.binaries import find_postgres
from pattern_storage.embedded.cluster import NAME, create_cluster
from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.memory import free_disk, memory_settings, usable_memory, wal_settings
from pattern_storage.embedded.ports import HOST
from pattern_storage.embedded.process import ServerProcess
from pattern_storage.embedded.server import START_TIMEOUT, EmbeddedServer

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # the path of a socket may be 107 bytes long at most; TCP has no such limit
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "password_encryption": "scram-sha-256",
}

#: Settings that lose or corrupt data when the machine stops.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL with one superuser and one database, both called pattern_storage.

    The first start in a directory creates them, which takes half a second. `durable=False` turns off every write to
    disk that a commit waits for. `settings` replace those chosen here and in `memory.py`. See `EmbeddedServer`.
    """

    NAME = "PostgreSQL"
    PORT_TAKEN = "could not bind"
    EXECUTABLES = ("postgres",)
    STOP_SIGNALS = (signal.SIGINT, signal.SIGQUIT)  # "fast", then "immediate": the next start recovers

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = True,
        settings: Mapping[str, str] | None = None,
        copies: Path | None = None,
    ) -> None:
        super().__init__(directory, durable=durable, copies=copies)
        # Tests start many servers at once, which keep PostgreSQL's defaults of memory.
        own = memory_settings(usable_memory()) | wal_settings(free_disk(directory)) if durable else NOT_DURABLE
        self._settings = SETTINGS | own | dict(settings or {})

    def start(self) -> None:
        """See `EmbeddedServer.start`. Raises EmbeddedError also for data without its password."""
        password_file = self.directory / "password"
        if self._data.exists() and not password_file.exists():
            raise EmbeddedError(
                f"{password_file} is missing, and the data beside it opens with the password in it: put the file "
                "back, or choose another data directory."
            )
        super().start()

    def _prepare(self, account: Account, password: str) -> None:
        if not self._data.exists():
            programs = find_postgres(self._copies, account)
            create_cluster(self._data, programs, account, password=password, durable=self._durable, log=self._log)
        super()._prepare(account, password)
        self._remove_foreign_pid_file()

    def _command(self, account: Account, port: int, password: str) -> Sequence[str | Path]:
        postgres = find_postgres(self._copies, account).postgres
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        return [postgres, "-D", self._data, "-p", str(port), *options]

    def _wait_ready(self, process: ServerProcess, port: int, password: str) -> None:
        pid_file = self._data / "postmaster.pid"

        def ready() -> bool:
            # Line 1 tells this start from an earlier one; pg_ctl waits for line 8 as well.
            with contextlib.suppress(OSError):
                lines = pid_file.read_text(encoding="utf-8").splitlines()
                return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"
            return False

        process.wait_ready(ready, timeout=START_TIMEOUT)

    def _remove_foreign_pid_file(self) -> None:
        """Remove the pid file of a dead server whose process id now belongs to another program of the same user.

        PostgreSQL would take that program for the server and refuse to start. Any other stale file is left to
        PostgreSQL, which reads in it the shared memory to free.
        """
        pid_file = self._data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            pid = int(pid_file.read_text(encoding="utf-8").splitlines()[0])
            if psutil.Process(pid).cwd() != str(self._data.resolve()):
                pid_file.unlink()

    def _url(self, port: int, password: str) -> str:
        return f"postgresql://{NAME}:{password}@{HOST}:{port}/{NAME}"
