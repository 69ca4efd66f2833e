"""Workers and drivers as real processes: start, stand still, go on, stop, and what they cost."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from bench.peers.environment import PROGRAMS, python
from bench.peers.registry import Peer

T = TypeVar("T")

#: Seconds that a worker has to end by itself.
STOP_TIMEOUT = 15.0


class Workers:
    """The workers of one peer, with all their children."""

    def __init__(self, peer: Peer, processes: int, environment: Mapping[str, str], log: Path) -> None:
        copies, each = (processes, 1) if peer.single else (1, processes)
        commands = [peer.worker.format(processes=each, number=number).split() for number in range(copies)]
        with log.open("ab") as output:
            self._mains = [
                psutil.Popen(
                    [python(peer), "-m", *command],
                    cwd=PROGRAMS,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
                for command in commands
            ]
        self._log = log

    def check(self) -> None:
        """Raise RuntimeError with the end of the log if one has ended."""
        if any(main.poll() is not None for main in self._mains):
            raise RuntimeError(f"a worker ended:\n{self._log.read_text(errors='replace')[-3_000:]}")

    def _all(self) -> list[psutil.Process]:
        living = [main for main in self._mains if main.poll() is None]
        return [one for main in living for one in (main, *main.children(recursive=True))]

    def _living(self, ask: Callable[[psutil.Process], T]) -> list[T]:
        """Ask each process; leave out those that have just ended: a worker runs short programs when it starts."""
        answers = []
        for one in self._all():
            with suppress(psutil.NoSuchProcess):
                answers.append(ask(one))
        return answers

    def pause(self) -> None:
        """Let all stand still, so that a queue can be filled."""
        self._living(lambda one: one.send_signal(signal.SIGSTOP))

    def resume(self) -> None:
        """Let all go on."""
        self._living(lambda one: one.send_signal(signal.SIGCONT))

    def cpu_seconds(self) -> float:
        """Return the CPU time that all have used."""
        return float(sum(spent.user + spent.system for spent in self._living(psutil.Process.cpu_times)))

    def memory_mib(self) -> float:
        """Return the memory of all; what they share counts once where the system can tell (Linux)."""
        found = self._living(psutil.Process.memory_full_info)
        return float(sum(getattr(one, "pss", one.rss) for one in found)) / 2**20

    def wait_idle(self, timeout: float = 30.0) -> None:
        """Return once they use hardly any CPU: all have started, or have nothing left to do."""
        deadline = time.monotonic() + timeout
        before = self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(0.25)
            self.check()
            now = self.cpu_seconds()
            if now - before < 0.05:
                return
            before = now

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = self._all()
        for main in self._mains:
            with suppress(psutil.NoSuchProcess):
                main.terminate()
        psutil.wait_procs(self._mains, timeout=STOP_TIMEOUT)
        # saq's first process leaves the others alone.
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        for main in self._mains:
            main.wait()


class Driver:
    """`programs/driver.py` with one peer's program: what an application does."""

    def __init__(self, peer: Peer, patterns: Path, environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python(peer), "driver.py", peer.program, patterns],
                cwd=PROGRAMS, env=environment, text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self._log = log
        self.answer()

    def order(self, do: str, **arguments: Any) -> None:
        """Tell it to begin; `answer` waits for the end."""
        assert self._process.stdin is not None
        print(json.dumps({"do": do, **arguments}), file=self._process.stdin)

    def answer(self) -> Any:
        """Return what it says. Raises RuntimeError with the end of the log if it died."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise RuntimeError(f"a driver ended:\n{self._log.read_text(errors='replace')[-3_000:]}")
        return json.loads(line)

    def do(self, do: str, **arguments: Any) -> Any:
        """Tell it to do something, and return what it says then."""
        self.order(do, **arguments)
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
