"""The command line: called in this process, as a real process, and as a running `up`.

A test that only reads what a command says calls it in this process, which takes milliseconds instead of a second;
exit codes, pipes and signals are tested on real processes.
"""

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import psutil
import psycopg
import pytest

from pattern_storage.embedded import StackState, read_state
from pattern_storage.tasks.cli import main
from tests.fix_celery import StorageWorker
from tests.fix_process import DEADLINE, OURS, clean_environment, wait_until

#: The console script, as users start it.
SCRIPT = Path(sys.executable).with_name("pattern-storage")
PATTERN = ("pattern_type=function", "language=python", "template_code=pass")


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The text of standard error without line breaks, which depend on the width of the terminal."""
        return " ".join(self.err.split())


class Cli(Protocol):
    """`cli("query", "--json", REDIS_URL=...)`."""

    def __call__(self, *arguments: str, stdin: bytes = b"", **variables: Any) -> Said: ...


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Call the command line in this process, with nothing in the environment but the given variables."""

    def run(*arguments: str, stdin: bytes = b"", **variables: Any) -> Said:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(OURS)]:
                patch.delenv(name)
            for name, value in ({"PATTERN_STORAGE_DATA_DIR": "/nonexistent"} | variables).items():
                patch.setenv(name, value)
            patch.setattr("sys.argv", ["pattern-storage", *arguments])
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
            handler = signal.getsignal(signal.SIGTERM)
            client_log = logging.getLogger("pattern_storage.tasks.client")
            level = client_log.level
            capfd.readouterr()
            try:
                main()
            except SystemExit as end:
                code = end.code
            finally:
                signal.signal(signal.SIGTERM, handler)
                client_log.setLevel(level)  # a command's own, and this process has many
            printed = capfd.readouterr()
        assert isinstance(code, int)
        return Said(code, printed.out, printed.err)

    return run


@pytest.fixture
def served_cli(cli: Cli, worker: StorageWorker) -> Cli:
    """Call the command line in this process, on the servers of the shared `worker`."""
    servers = {"DATABASE_URL": worker.database_url, "REDIS_URL": worker.redis_url}

    def run(*arguments: str, **options: Any) -> Said:
        return cli(*arguments, **{**servers, **options})

    return run


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A pattern name of this test's own."""
    return f"{request.node.name} {uuid4().hex[:8]}"


def insert(cli: Cli, name: str, *more: str) -> dict[str, Any]:
    """Insert a pattern and return the data of the result."""
    said = cli("insert", f"pattern_name={name}", *PATTERN, *more, "--json")
    assert said.code == 0, said.err
    data: dict[str, Any] = said.json["data"]
    return data


def records(cli: Cli, *filters: str) -> list[dict[str, Any]]:
    """Return the patterns that a query finds."""
    said = cli("query", *filters, "--json")
    assert said.code == 0, said.err
    found: list[dict[str, Any]] = said.json["data"]["patterns"]
    return found


def numbered(name: str, count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return the data of so many patterns, called `name 000` and so on."""
    base = {"pattern_type": "function", "language": "python", "template_code": "pass"} | changes
    return [{"pattern_name": f"{name} {number:03}", **base} for number in range(count)]


def command_line(*arguments: str, **variables: Any) -> tuple[list[str], dict[str, str]]:
    """Return what starts the command line as a process: its arguments and its whole environment."""
    return [str(SCRIPT), *arguments], clean_environment(**variables)


def run_script(*arguments: str, stdin: bytes = b"", cwd: Path | None = None, **variables: Any) -> Said:
    """Run the console script as a process and return what it said."""
    command, environment = command_line(*arguments, **variables)
    done = subprocess.run(
        command, env=environment, cwd=cwd, input=stdin, capture_output=True, timeout=DEADLINE, check=False
    )
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def make_home(parent: Path | None = None) -> Path:
    """Create a folder that `nobody` can enter too; pytest's tmp_path is closed to it when root runs the tests."""
    home = Path(tempfile.mkdtemp(prefix="pattern-storage-", dir=parent))
    home.chmod(0o711)
    return home


def names_in(folder: Path) -> list[str]:
    """Return what is in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of this test's own for data directories."""
    path = make_home()
    yield path
    shutil.rmtree(path)


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
