"""The temporary folders of metrics: each stays as long as a process of its worker lives, however that ends."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pattern_storage.tasks.observability.metrics.folder import PREFIX, make_folder, remove_stale_folders
from tests.fix_process import wait_until

#: Makes a folder, prints its name and the id of a child that outlives it, and waits to be killed.
PROGRAM = """
import os, signal
from pattern_storage.tasks.observability.metrics.folder import make_folder
folder = make_folder()
(folder / "counter_0.db").write_bytes(b"x")
child = os.fork()
if child:
    print(folder, child, flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary folders, of this process and those that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, process_group=0
    ) as started:
        yield started
        # Its child, too.
        os.killpg(started.pid, signal.SIGKILL)


def test_a_folder_is_removed_when_the_last_of_its_processes_was_killed(worker: "subprocess.Popen[str]") -> None:
    assert worker.stdout
    name, child = worker.stdout.readline().split()
    folder = Path(name)
    remove_stale_folders()
    assert {file.name for file in folder.iterdir()} == {"counter_0.db", "lock"}
    worker.kill()
    worker.wait()
    remove_stale_folders()
    assert folder.exists()
    os.kill(int(child), signal.SIGKILL)

    def removed() -> bool:
        remove_stale_folders()
        return not folder.exists()

    wait_until(removed, "the folder is removed")


def test_what_is_not_ours_is_left_alone(temporary: Path) -> None:
    own = make_folder()
    just_made, precious = temporary / f"{PREFIX}just-made", temporary / "precious"
    for folder in (just_made, precious):
        folder.mkdir()
    (precious / "lock").touch()
    (temporary / f"{PREFIX}link").symlink_to(precious)
    (temporary / f"{PREFIX}file").touch()
    linked = temporary / f"{PREFIX}linked"
    linked.mkdir()
    (linked / "lock").symlink_to(precious / "lock")
    before = set(temporary.iterdir())
    remove_stale_folders()
    assert set(temporary.iterdir()) == before
    assert own in before
    assert (precious / "lock").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_left_alone(temporary: Path) -> None:
    folder = temporary / f"{PREFIX}theirs"
    folder.mkdir()
    (folder / "lock").touch()
    os.chown(folder, 65534, 65534)
    remove_stale_folders()
    assert folder.exists()
    os.chown(folder, 0, 0)
    remove_stale_folders()
    assert not folder.exists()
