"""Programs as real processes: start, signal, kill and restart them, and wait for what they do."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

ROOT = Path(__file__).parent.parent
#: Seconds. No test that passes waits for all of it, so it may be generous.
DEADLINE = 60.0
POLL = 0.01
SHOWN_LINES = 60
OURS = ("PATTERN_STORAGE_", "CELERY_", "FLOWER_", "DATABASE_URL", "REDIS_URL", "BROKER_URL", "RESULT_BACKEND")
#: Programs of the tests that run now: their logs are shown beside a test that fails.
_running: "list[ProcessGroup]" = []


def wait_until(holds: Callable[[], Any], what: str, timeout: float = DEADLINE) -> Any:
    """Ask again and again until the answer is true, and return it."""
    deadline = time.monotonic() + timeout
    while not (answer := holds()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(POLL)
    return answer


def needs(program: str) -> str:
    """Return where a program is installed; skips the test where it is not."""
    # Debian puts servers where an ordinary user's PATH does not lead.
    found = shutil.which(program, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed; 'make setup-servers' installs it where it can")
    return found


def free_port() -> int:
    """Return a port of 127.0.0.1 where nothing listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def clean_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours is set, but for a data directory in which no stack runs."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATTERN_STORAGE_DATA_DIR", str(tmp_path))


@pytest.fixture
def log_levels_kept() -> Iterator[None]:
    """Give the root logger its level back: a Celery worker in this process sets it, and later tests read logs."""
    level = logging.root.level
    yield
    logging.root.setLevel(level)


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without anything that configures us, and with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    if groups := os.environ.get("TEST_GROUP_EXECUTION"):
        kept["PATTERN_STORAGE_GROUP_EXECUTION"] = groups
    return kept | {"PATTERN_STORAGE_DATA_DIR": "/nonexistent", "PYTHONUNBUFFERED": "1"} | variables


def run_python(*arguments: str, timeout: float = DEADLINE, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` from the root of the repository in a clean environment with these variables."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env=clean_environment(**variables), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


class ProcessGroup:
    """`python -m ARGUMENTS`, or another program, and its children, with the face of a docker container."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        program: Sequence[str] = (sys.executable, "-m"),
        user: str | None = None,
    ) -> None:
        self.id = uuid4().hex[:12]
        self.name = name
        self.attrs: dict[str, Any] = {"NetworkSettings": {"Networks": {}, "Ports": {}}}
        self._command = [*program, *(argument.replace("%ID", self.id) for argument in arguments)]
        self._user: dict[str, Any] = {"user": user, "extra_groups": []} if user else {}
        self._environment = dict(environment)
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            #: Where in the log this start begins.
            self.started_at = log.tell()
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, process_group=0,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **self._user,
            )  # fmt: skip
        if self not in _running:
            _running.append(self)

    @property
    def status(self) -> str:
        return "running" if self.process.poll() is None else "exited"

    def reload(self) -> None:
        """Forget what was cached: nothing is."""

    def logs(self) -> bytes:
        return self._log.read_bytes()

    def text(self) -> str:
        """What was logged since the last start."""
        return self.logs()[self.started_at :].decode(errors="replace")

    def kill(self, signal: str | int | None = None) -> None:
        """Send a signal to the main process; SIGKILL, the default, to all and wait."""
        number = signal_of(signal)
        if number == signal_of("SIGKILL"):
            # Also where the main process is gone: its children may have outlived it.
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            self.process.wait()
        else:
            self.process.send_signal(number)

    def wait_for(self, text: str, timeout: float = DEADLINE) -> None:
        """Return once it has logged `text` since its last start; fail if it ends before."""

        def logged() -> bool:
            ended = self.process.poll() is not None
            found = text in self.text()
            assert found or not ended, f"{self.name} ended with {self.process.returncode}:\n{self.text()}"
            return found

        wait_until(logged, f"{self.name} logs {text!r}", timeout)

    def stop(self, timeout: float = DEADLINE) -> int:
        """End it with SIGTERM, after `timeout` seconds with SIGKILL; return the exit code."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        self.kill()
        return self.process.returncode

    def discard(self) -> None:
        """End it if it still runs, and show its log no more."""
        self.stop()
        _running.remove(self)

    def restart(self, timeout: float = DEADLINE) -> None:
        self.stop(timeout)
        self.start()


StartProcess = Callable[..., ProcessGroup]


def signal_of(name: str | int | None) -> signal.Signals:
    return signal.Signals[name] if isinstance(name, str) else signal.Signals(name or signal.SIGKILL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of each running program's log beside a test that fails."""
    report = yield
    if report.failed:
        for group in _running:
            report.sections.append((f"log of {group.name}", "\n".join(group.text().splitlines()[-SHOWN_LINES:])))
    return report


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., ProcessGroup]]:
    """Start `python -m ARGUMENTS`, for example `start_process("pattern_storage", "relay", REDIS_URL=...)`."""
    started: list[ProcessGroup] = []

    def start(*arguments: str, **variables: str) -> ProcessGroup:
        name = f"{' '.join(arguments)} ({len(started)})"
        log = tmp_path / f"process-{len(started)}.log"
        started.append(ProcessGroup(name, arguments, clean_environment(**variables), log))
        return started[-1]

    yield start
    for group in started:
        group.discard()
