"""The command line as a process that runs on, and `pattern-storage up` with all that it starts."""

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pattern_storage.embedded import StackState, read_state
from tests.fix_cli import command_line, make_home
from tests.fix_process import DEADLINE, wait_until


def lives(process: psutil.Process) -> bool:
    """Whether a process runs; a zombie that nobody collected does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def family(pid: int) -> list[psutil.Process]:
    """Return all descendants of a process."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


class Running:
    """A command that runs as a process of its own, with all its descendants."""

    def __init__(
        self,
        *arguments: str,
        log: Path,
        cwd: Path | None = None,
        command: list[str] | None = None,
        user: int | None = None,
        environment: Mapping[str, str] | None = None,
        **variables: Any,
    ) -> None:
        ours, clean = command_line(*arguments, **variables)
        self.log = log
        self.members: list[psutil.Process] = []
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, *arguments] if command else ours,
                env=clean | dict(environment or {}), cwd=cwd, user=user, extra_groups=[] if user else None,
                stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, process_group=0,
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        """Return once it has printed `text`; fail if it ends before."""

        def printed() -> bool:
            ended = self.process.poll() is not None
            found = text in self.text
            assert found or not ended, f"it ended with {self.process.returncode}:\n{self.text}"
            return found

        wait_until(printed, f"{text!r} is printed:\n{self.text}")
        self.remember()

    def remember(self) -> None:
        """Note its descendants, to see later that none is left."""
        self.members = family(self.process.pid)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def leaves_nothing(self) -> None:
        """Return once none of its descendants lives."""
        assert self.members
        wait_until(lambda: not any(map(lives, self.members)), f"all of these end: {self.members}")

    def end(self) -> None:
        """Clean up after a test, whatever became of it."""
        self.remember_more()
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for member in filter(lives, self.members):
            with suppress(psutil.NoSuchProcess):
                member.kill()

    def remember_more(self) -> None:
        known = {member.pid for member in self.members}
        self.members += [member for member in family(self.process.pid) if member.pid not in known]


class Up(Running):
    """A running `pattern-storage up` on a data directory; without Flower, which takes its time, unless asked for."""

    def __init__(
        self, data_dir: Path, *arguments: str, log: Path | None = None, flower: bool = False, **options: Any
    ) -> None:
        self.data_dir = data_dir
        super().__init__(
            "up", "--concurrency", "1", "--flower" if flower else "--no-flower", *arguments,
            log=log or data_dir.with_suffix(".log"), PATTERN_STORAGE_DATA_DIR=str(data_dir), **options,
        )  # fmt: skip

    def ready(self) -> "Up":
        """Return once everything has started."""
        self.wait_for("pattern-storage is up")
        return self

    @property
    def state(self) -> StackState:
        state = read_state(self.data_dir)
        assert state is not None
        return state

    @property
    def variables(self) -> dict[str, Any]:
        """What another command needs to find it."""
        return {"PATTERN_STORAGE_DATA_DIR": str(self.data_dir)}

    def member(self, *words: str) -> psutil.Process:
        """Return the child whose command line has all these words."""
        children = psutil.Process(self.process.pid).children()
        [found] = [child for child in children if set(words) <= set(child.cmdline())]
        return found

    def has(self, word: str) -> bool:
        """Whether it has a child with this word in its command line."""
        with suppress(StopIteration, psutil.NoSuchProcess):
            return lives(self.child(word))
        return False

    def child(self, word: str) -> psutil.Process:
        """Return the first child in whose command line this word is, or a part of one."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if word in " ".join(child.cmdline()))

    def count(self, name: str) -> int:
        """How many patterns of that name are stored."""
        with psycopg.connect(self.state.database_url) as connection:
            row = connection.execute("SELECT count(*) FROM pattern_templates WHERE pattern_name = %s", [name])
            [(count,)] = row.fetchall()
        return int(count)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """One running `up` for the tests of a module that only use it."""
    home = make_home()
    running = Up(home / "data")
    try:
        yield running.ready()
    finally:
        running.end()
        shutil.rmtree(home)
