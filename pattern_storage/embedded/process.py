"""Child process of a server, from its start until it and its children are gone."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable

from pattern_storage.embedded.errors import EmbeddedError
from pattern_storage.embedded.log import ServerLog
from pattern_storage.embedded.orphans import kill_tree

POLL = 0.005  # seconds


class ServerProcess:
    """A program that was launched.

    In a forked child of the process that launched it, it counts as not running, and no method does anything to it.
    """

    def __init__(self, name: str, child: subprocess.Popen[str], log: ServerLog) -> None:
        self._name = name
        self._child = child
        self._log = log
        self._owner = os.getpid()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._owner == os.getpid() and self._child.poll() is None

    @property
    def log_tail(self) -> str:
        """The last lines that it wrote since its start."""
        return self._log.tail()

    def wait_ready(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Wait until `ready()`, which is called again and again, returns True.

        Raises EmbeddedError if the process ends, or if it is not ready after `timeout` seconds and has been killed.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise self._failure(f"ended with status {self._child.returncode} while starting")
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"was not ready after {timeout:g} seconds and was killed")
            time.sleep(POLL)

    def wait_done(self, *, timeout: float) -> None:
        """Wait until the process ends by itself with status 0.

        Raises EmbeddedError for another status, or if it has not ended after `timeout` seconds and has been killed.
        """
        try:
            status = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._failure(f"took more than {timeout:g} seconds and was killed") from None
        finally:
            self.kill()
        if status != 0:
            raise self._failure(f"ended with status {status}")

    def stop(self, *signals: signal.Signals, timeout: float) -> None:
        """Send the signals in turn, each with `timeout` seconds to end, then kill; return when the process is gone."""
        for number in signals:
            self.ask(number, timeout=timeout)
        self.kill()

    def ask(self, number: signal.Signals, *, timeout: float) -> None:
        """Send a signal to a process that runs, and wait `timeout` seconds for its end, at most."""
        if self.running:
            self._child.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout)

    def kill(self) -> None:
        """End the process and its children with SIGKILL; return when all are gone."""
        if self.running:
            kill_tree(self.pid)
            self._child.wait()

    def _failure(self, what: str) -> EmbeddedError:
        return EmbeddedError(f"{self._name} {what}; the end of its log {self._log.path}:\n{self._log.tail()}")
