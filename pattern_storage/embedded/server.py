"""Base of both embedded servers: a directory, a port, a password and one process."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from pattern_storage.embedded.account import Account, server_account
from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.files import make_directory, make_server_directory, read_or_create_secret
from pattern_storage.embedded.launcher import launch
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.log import ServerLog
from pattern_storage.embedded.orphans import stop_orphans
from pattern_storage.embedded.ports import port_for
from pattern_storage.embedded.process import ServerProcess

START_TIMEOUT = 120.0  # seconds: after a crash a server reads its log back before it is ready
STOP_TIMEOUT = 30.0  # seconds for each of the stop signals
PORT_ATTEMPTS = 5
LOCK = "server.lock"


class EmbeddedServer(ABC):
    """A server on 127.0.0.1. Data, password and, while it is free, port are kept from one start to the next.

    It is not for use by several threads at once.

    Args:
        directory: The folder of its files; created when missing.
        durable: False trades safety against a stopping machine for speed; for tests only.
        copies: The folder for a copy of the programs if `nobody` cannot run them where they are; by default
            inside `directory`.
    """

    NAME: ClassVar[str]
    #: The words in its log that say that another program has the port.
    PORT_TAKEN: ClassVar[str]
    #: Prefixes of the names of its executables.
    EXECUTABLES: ClassVar[Sequence[str]]
    #: Signals that stop it, in the order in which they are tried. The first is also sent when this process dies.
    STOP_SIGNALS: ClassVar[Sequence[signal.Signals]]

    def __init__(self, directory: Path, *, durable: bool = True, copies: Path | None = None) -> None:
        self.directory = directory.absolute()
        self._log = ServerLog(self.directory / "server.log")
        self._durable = durable
        self._copies = copies or self.directory / "programs"
        self._data = self.directory / "data"
        self._lock = DirectoryLock(self.directory / LOCK)
        self._process: ServerProcess | None = None
        self._address: str | None = None

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int | None:
        """The process id of the server; None when it does not run."""
        return self._process.pid if self._process and self._process.running else None

    @property
    def log_file(self) -> Path:
        """The server's log, over many starts."""
        return self._log.path

    @property
    def log_tail(self) -> str:
        """The last lines of the server's log since its start."""
        return self._log.tail()

    @property
    def url(self) -> str:
        """The URL for clients, with the password in it; also while the server is stopped.

        Raises EmbeddedError before the first start.
        """
        if self._address is None:
            raise EmbeddedError(f"{self.NAME} in {self.directory} has no URL before its first start(): call it.")
        return self._address

    def start(self) -> None:
        """Start the server unless it runs, and return when it answers.

        A server that a dead process left running in the directory is stopped first. The URL changes only if
        another program took the port meanwhile.

        Raises:
            StackAlreadyRunning: Another living process runs a server in this directory.
            EmbeddedError: The server could not be started; the message ends with the end of its log.
        """
        if self.running:
            return
        account = server_account()
        make_directory(self.directory, account, ours=LOCK)
        self._lock.acquire()
        try:
            stop_orphans(self._data, self.EXECUTABLES, self.STOP_SIGNALS[0])
            password = read_or_create_secret(self.directory / "password")
            self._prepare(account, password)
            port = self._start_on_some_port(account, password)
            self._address = self._url(port, password)
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise EmbeddedError(f"Cannot start {self.NAME} in {self.directory}: {error}.") from error
            raise

    def stop(self) -> None:
        """Stop in an orderly way, by force when that takes too long, and release the directory; the data stays."""
        if self._process:
            self._process.stop(*self.STOP_SIGNALS, timeout=STOP_TIMEOUT)
            self._process = None
        self._lock.release()

    def kill(self) -> None:
        """Crash the server, for tests: SIGKILL to it and its children. `start()` recovers what was written."""
        if self._process:
            self._process.kill()
            self._process = None

    def _start_on_some_port(self, account: Account, password: str) -> int:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = port_for(self.directory / "port", keep=attempt == 1)
            command = self._command(account, port, password)
            process = launch(self.NAME, command, account=account, log=self._log, death_signal=self.STOP_SIGNALS[0])
            self._process = process
            try:
                self._wait_ready(process, port, password)
            except EmbeddedError:
                # Another program took the port between `port_for` and the server's bind.
                if attempt == PORT_ATTEMPTS or self.PORT_TAKEN not in self._log.tail():
                    raise
            else:
                return port
        raise AssertionError  # the last attempt returns or raises

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self, account: Account, password: str) -> None:
        """Create the data directory, and the files that the server needs in it."""
        make_server_directory(self._data, account)

    @abstractmethod
    def _command(self, account: Account, port: int, password: str) -> Sequence[str | Path]:
        """Return the program and its arguments; none may be a secret, because every user can read them."""

    @abstractmethod
    def _wait_ready(self, process: ServerProcess, port: int, password: str) -> None:
        """Wait with `process.wait_ready` until the server serves clients."""

    @abstractmethod
    def _url(self, port: int, password: str) -> str:
        """Return the URL for clients."""
