"""No module is loaded under two names in one process, but for `tasks/__init__.py`: the face of `celery -A tasks`.

A class that exists twice is not itself: `except`, `isinstance` and signals would miss it.
"""

import json
from pathlib import Path

import pytest

from pattern_storage import PatternStorageClient
from tests.fix_process import ROOT, StartProcess, free_port, wait_until
from tests.fix_storage import make_pattern

#: Read by every Python that starts with its folder on the path: writes down, at the end, which file has which names.
SITECUSTOMIZE = """
import atexit, json, os, sys

def write():
    names = {}
    # One object under two names, as billiard's __mp_main__, was loaded once.
    modules = {id(module): (name, module) for name, module in reversed(list(sys.modules.items()))}
    for name, module in modules.values():
        if file := getattr(module, "__file__", None):
            names.setdefault(os.path.realpath(file), []).append(name)
    with open(os.path.join(os.path.dirname(__file__), f"{os.getpid()}.json"), "w") as file:
        json.dump(names, file)

atexit.register(write)
"""
FACE = str(ROOT / "tasks/__init__.py")
#: Commands that go on until they are told to stop, and what they log when they have begun.
SERVICES = {
    "worker": (("worker", "--pool", "solo", "--loglevel", "INFO"), "ready."),
    "beat": (("beat", "--schedule", "{folder}/beat", "--loglevel", "INFO"), "beat: Starting"),
    "flower": (("flower", "--port={port}"), "Visit me at"),
}
COMMANDS = (
    ("query", "--timeout", "1", "--json"),
    ("doctor",),
    ("status", "00000000-0000-0000-0000-000000000000"),
    ("relay", "--help"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where each process writes what it has loaded."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return tmp_path


def names_by_file(folder: Path) -> dict[str, list[str]]:
    """Return the names of our modules in the process that has ended, by their files."""
    [file] = wait_until(lambda: list(folder.glob("*.json")), "the process writes down its modules")
    loaded: dict[str, list[str]] = json.loads(file.read_text())
    ours = {path: names for path, names in loaded.items() if Path(path).is_relative_to(ROOT) and ".venv" not in path}
    assert str(ROOT / "pattern_storage/__init__.py") in ours
    return ours


def assert_one_name_each(names: dict[str, list[str]]) -> None:
    for file, several in names.items():
        if file == FACE:
            assert set(several) <= {"tasks", "pattern_storage.tasks"}
        else:
            assert len(several) == 1, (file, several)
            # Nor is any imported by the name of its folder alone.
            assert several[0].startswith(("pattern_storage", "__main__")), (file, several)


@pytest.mark.parametrize("application", ["tasks", "pattern_storage"])
@pytest.mark.parametrize("service", SERVICES)
def test_of_a_service(
    start_process: StartProcess, database_url: str, redis_url: str, folder: Path, application: str, service: str
) -> None:
    arguments, sign = SERVICES[service]
    process = start_process(
        "celery", "-A", application, *(one.format(folder=folder, port=free_port()) for one in arguments),
        DATABASE_URL=database_url, REDIS_URL=redis_url, PYTHONPATH=str(folder),
        PATTERN_STORAGE_FLOWER_PASSWORD="password of this test", PATTERN_STORAGE_DATA_DIR=str(folder / "data"),
    )  # fmt: skip
    process.wait_for(sign)
    if service == "worker":
        with PatternStorageClient(redis_url=redis_url) as client:
            assert client.insert(make_pattern()).result(timeout=60).success
    process.process.terminate()
    process.process.wait(60)
    names = names_by_file(folder)
    assert_one_name_each(names)
    assert ("tasks" in names[FACE]) == (application == "tasks")


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_of_a_command(
    start_process: StartProcess, database_url: str, redis_url: str, folder: Path, arguments: tuple[str, ...]
) -> None:
    process = start_process(
        "pattern_storage", *arguments, DATABASE_URL=database_url, REDIS_URL=redis_url, PYTHONPATH=str(folder)
    )
    wait_until(lambda: process.process.poll() is not None, "the command ends")
    assert_one_name_each(names_by_file(folder))
