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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest

from pattern_storage.tasks.cli import main
from tests.fix_celery import StorageWorker
from tests.fix_process import DEADLINE, OURS, clean_environment

#: The console script, as users start it.
SCRIPT = Path(sys.executable).with_name("pattern-storage")
#: Servers that nobody runs: the port is never open.
ABSENT_REDIS = "redis://127.0.0.1:1"
ABSENT_POSTGRES = "postgresql://127.0.0.1:1/x"
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


@pytest.fixture
def doctor(cli: Cli) -> Callable[..., Said]:
    """Call `doctor`, which does not wait long."""
    return lambda *arguments, **variables: cli("doctor", *arguments, PATTERN_STORAGE_CONNECT_TIMEOUT="1", **variables)


def found_wrong(said: Said) -> dict[str, dict[str, Any]]:
    """Return what `doctor` found to be wrong, by subject."""
    return {finding["subject"]: finding for finding in said.json if not finding["ok"]}
