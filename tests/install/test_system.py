"""What the README promises, from the wheel: the demo, a running system, and a client in an application of its own."""

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pattern_storage.embedded import read_state
from tests import fix_cli
from tests.fix_install import VERSIONS, Install, Installation, find_python
from tests.fix_process import free_port
from tests.fix_up import Running

CURRENT = ".".join(map(str, sys.version_info[:2]))
#: An application that has modules of the names of our folders, and uses both.
APPLICATION = """
import config, storage, tasks
from pattern_storage import AsyncPatternStorageClient, ModelContractPatternStorage, ModelResult, PatternStorageClient

assert (config.OWN, storage.OWN, tasks.OWN) == ("config", "storage", "tasks")
with PatternStorageClient() as client:
    job = client.insert({"pattern_name": NAME, "pattern_type": "code", "language": "python", "template_code": "..."})
    result = job.result(timeout=60)
assert isinstance(result, ModelResult)
assert (config.__file__, storage.__file__, tasks.__file__) == FILES
print(result.success, result.error)
"""


@pytest.fixture(scope="module")
def system(install: Install) -> Iterator[Running]:
    """A running `pattern-storage up` of the extra `up`, with Flower."""
    home = fix_cli.make_home()
    running = start(install("up"), "up", "--concurrency", "1", "--flower-port", str(free_port()), home=home)
    try:
        running.wait_for("pattern-storage is up")
        yield running
        # As Ctrl-C does, which a process in the background does not hear.
        running.signal(signal.SIGTERM)
        assert running.wait() == 0, running.text
        running.leaves_nothing()
    finally:
        running.end()
        shutil.rmtree(home)


def start(installation: Installation, *arguments: str, home: Path, program: str = "pattern-storage") -> Running:
    return Running(
        *arguments, command=[str(installation.bin / program)], cwd=home, log=home / f"{program}-{arguments[-1]}.log",
        environment=installation.environment(PATTERN_STORAGE_DATA_DIR=str(home / "data"), TMPDIR=str(home)),
    )  # fmt: skip


def make_application(folder: Path, *, packages: bool) -> tuple[str, ...]:
    """Create packages or modules of our names, and return their files."""
    folder.mkdir()
    files = []
    for name in ("config", "storage", "tasks"):
        file = folder / name / "__init__.py" if packages else folder / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"OWN = {name!r}\n")
        files.append(str(file))
    return tuple(files)


@pytest.mark.parametrize("packages", [True, False], ids=["packages", "modules"])
def test_a_client_in_an_application_with_names_like_ours(
    system: Running, install: Install, tmp_path: Path, packages: bool
) -> None:
    """The plain installation, in another environment than the servers, finds them and stores a pattern."""
    files = make_application(tmp_path / "application", packages=packages)
    given = f"NAME, FILES = {f'Application {packages}'!r}, {files!r}\n"
    data = Path(str(system.log.parent / "data"))
    said = install().python(given + APPLICATION, cwd=tmp_path / "application", PATTERN_STORAGE_DATA_DIR=str(data))
    assert said == "True None\n"


@pytest.mark.parametrize(
    ("arguments", "sign"),
    [
        (("worker", "--pool", "solo", "-n", "other@%h", "--loglevel", "INFO"), "ready."),
        # When it has loaded all; Celery answers a signal before that with a traceback.
        (("beat", "--schedule", "beat", "--loglevel", "DEBUG"), "beat: Ticking"),
        (("flower", "--port={port}"), "Visit me at"),
    ],
    ids=["worker", "beat", "flower"],
)
def test_celery_from_a_folder_with_names_like_ours(
    system: Running, install: Install, home: Path, arguments: tuple[str, ...], sign: str
) -> None:
    make_application(home / "application", packages=True)
    state = read_state(system.log.parent / "data")
    assert state is not None
    installation = install("up")
    command = [argument.format(port=free_port()) for argument in arguments]
    running = Running(
        "-A", "pattern_storage", *command, command=[str(installation.bin / "celery")], cwd=home / "application",
        log=home / "celery.log",
        environment=installation.environment(
            DATABASE_URL=state.database_url, REDIS_URL=state.redis_url, PATTERN_STORAGE_DATA_DIR=str(home / "data"),
            PATTERN_STORAGE_FLOWER_PASSWORD="password of this test",
        ),
    )  # fmt: skip
    try:
        running.wait_for(sign)
        running.signal(signal.SIGTERM)
        running.wait()
        assert "Traceback" not in running.text
    finally:
        running.end()


@pytest.mark.parametrize("python", VERSIONS)
def test_the_demo(install: Install, home: Path, python: str) -> None:
    """A newcomer's `pip install` in an empty environment runs `pattern-storage demo`."""
    if find_python(python) is None:
        pytest.skip(f"Python {python} is not installed")
    installation = install("up", python="" if python == CURRENT else python)
    assert installation.run("pip", "check").returncode == 0
    running = start(installation, "demo", "--workers", "1", "--patterns", "20", home=home)
    try:
        running.wait_for("are up after")
        assert running.wait() == 0, running.text
        running.leaves_nothing()
    finally:
        running.end()
