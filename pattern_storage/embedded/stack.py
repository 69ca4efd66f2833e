"""PostgreSQL and Valkey together, in one data directory that one process holds."""

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pattern_storage.embedded.account import server_account
from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.files import make_directory
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.postgres import EmbeddedPostgres
from pattern_storage.embedded.state import LOCK_FILE, STATE_FILE, StackState, write_state
from pattern_storage.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedStack"]


class EmbeddedStack:
    """Both servers, started and stopped together.

    Stacks in different directories know nothing of each other. In one directory there is one at a time.

        with EmbeddedStack(default_data_dir()) as stack:
            connect(stack.database_url)

    Args:
        data_dir: Where everything is kept; created when missing.
        durable: False trades safety against a stopping machine for speed; for tests only.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self.data_dir = data_dir.absolute()
        copies = self.data_dir / "programs"
        self.postgres = EmbeddedPostgres(self.data_dir / "postgres", durable=durable, copies=copies)
        self.valkey = EmbeddedValkey(self.data_dir / "valkey", durable=durable, copies=copies)
        self._lock = DirectoryLock(self.data_dir / LOCK_FILE)
        self._started_at: datetime | None = None
        self._values: dict[str, object] = {}

    @property
    def running(self) -> bool:
        """Whether both servers live."""
        return self.postgres.running and self.valkey.running

    @property
    def database_url(self) -> str:
        """Where PostgreSQL is, with the password.

        Raises:
            EmbeddedError: The stack was never started.
        """
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """Where Valkey is, with the password.

        Raises:
            EmbeddedError: The stack was never started.
        """
        return self.valkey.url

    def start(self) -> None:
        """Start both servers, return when both are ready, and tell so in the state file.

        A server that runs already is left alone.

        Raises:
            StackAlreadyRunning: Another living process runs a stack in this directory.
            EmbeddedError: A server could not be started. None is left running then.
        """
        make_directory(self.data_dir, server_account(), ours=LOCK_FILE)
        self._lock.acquire()
        try:
            if self._started_at is None:
                # What a killed stack left would be taken for ours, now that the lock is held again.
                (self.data_dir / STATE_FILE).unlink(missing_ok=True)
            self.postgres.start()
            self.valkey.start()
            self._started_at = self._started_at or datetime.now(UTC)
            self.update_state()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Remove the state file, stop both servers and give the directory back; the data stays."""
        if not self._lock.held:
            return
        with contextlib.ExitStack() as steps:  # each is done even when one before it fails
            steps.callback(self._lock.release)
            steps.callback(self.postgres.stop)
            steps.callback(self.valkey.stop)
            steps.callback((self.data_dir / STATE_FILE).unlink, missing_ok=True)
        self._started_at = None
        self._values.clear()

    def update_state(self, **values: object) -> None:
        """Add to what other processes read with `read_state`, under `StackState.values`.

        Args:
            **values: JSON values by name; None removes one.

        Raises:
            EmbeddedError: The stack does not run.
        """
        if self._started_at is None:
            raise EmbeddedError(f"The stack in {self.data_dir} does not run: call start() first.")
        merged = {name: value for name, value in (self._values | values).items() if value is not None}
        state = StackState(os.getpid(), self.database_url, self.redis_url, self._started_at, merged)
        write_state(self.data_dir, state)
        self._values = merged

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
