"""PostgreSQL and Valkey together, in one data directory that one process holds."""

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pattern_storage.embedded.account import server_account
from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.files import make_directory
from pattern_storage.embedded.lock import DirectoryLock
from pattern_storage.embedded.postgres import EmbeddedPostgres
from pattern_storage.embedded.state import LOCK_FILE, STATE_FILE, StackState, write_state
from pattern_storage.embedded.valkey import EmbeddedValkey


class EmbeddedStack:
    """Both servers, started and stopped together. A directory has at most one running stack.

        with EmbeddedStack(default_data_dir()) as stack:
            connect(stack.database_url)

    Args:
        data_dir: The folder of all files; created when missing.
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
        """Whether both servers run."""
        return self.postgres.running and self.valkey.running

    @property
    def database_url(self) -> str:
        """PostgreSQL's URL, with the password. Raises EmbeddedError before the first start."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        """Valkey's URL, with the password. Raises EmbeddedError before the first start."""
        return self.valkey.url

    def start(self) -> None:
        """Start both servers unless they run, wait until both are ready, and write the state file.

        Raises:
            StackAlreadyRunning: Another living process runs a stack in this directory.
            EmbeddedError: A server could not be started. Neither is left running then.
        """
        make_directory(self.data_dir, server_account(), ours=LOCK_FILE)
        self._lock.acquire()
        try:
            if self._started_at is None:
                # The file of a killed stack would be taken for this one's, now that the lock is held again.
                (self.data_dir / STATE_FILE).unlink(missing_ok=True)
            self.postgres.start()
            self.valkey.start()
            self._started_at = self._started_at or datetime.now(UTC)
            self.update_state()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Remove the state file, stop both servers and release the directory; the data stays."""
        if not self._lock.held:
            return
        with contextlib.ExitStack() as steps:  # each step is done even if one before it fails
            steps.callback(self._lock.release)
            steps.callback(self.postgres.stop)
            steps.callback(self.valkey.stop)
            steps.callback((self.data_dir / STATE_FILE).unlink, missing_ok=True)
        self._started_at = None
        self._values.clear()

    def update_state(self, **values: object) -> None:
        """Add to `StackState.values`, for other processes, JSON values by name; None removes one.

        Raises EmbeddedError if the stack does not run.
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

    def __exit__(self, *_: object) -> None:
        self.stop()
