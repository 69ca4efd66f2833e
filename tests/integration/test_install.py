"""The wheel: what is in it, and that what it installs works among packages of the same names."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from pattern_storage.storage import __version__
from tests import fix_cli
from tests.fix_cli import Running
from tests.fix_process import ROOT, clean_environment

home = fix_cli.home
#: The copies that are installed here would count as code of their own.
UNMEASURED = ["env", "-u", "COVERAGE_PROCESS_CONFIG", "-u", "COVERAGE_PROCESS_START"]
pytestmark = pytest.mark.xdist_group("install")


def pip(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "pip", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    built = pip("wheel", ".", "--no-deps", *isolation, "--wheel-dir", str(folder))
    if re.search("No matching distribution found for hatchling", built.stderr + built.stdout):
        pytest.skip("hatchling is not installed and cannot be downloaded")
    assert built.returncode == 0, built.stderr
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    done = pip("install", "--no-deps", "--no-index", "--quiet", "--target", str(target), str(wheel))
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """The folder of a project with packages of our names."""
    for package in ("tasks", "storage", "config"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('the wrong package')")
    return tmp_path


def test_the_wheel_carries_everything(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        metadata = archive.read(f"pattern_storage-{__version__}.dist-info/METADATA").decode()
        entry = archive.read(f"pattern_storage-{__version__}.dist-info/entry_points.txt").decode()
    for package in ("config", "storage", "tasks"):
        files = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert {str(path.relative_to(ROOT)) for path in files} <= inside
        assert f"{package}/py.typed" in inside
    assert any(re.fullmatch(r"storage/sql/\w+\.sql", name) for name in inside)
    assert any(re.fullmatch(r"storage/migrations/versions/\w+\.py", name) for name in inside)
    assert any(name.endswith("/LICENSE") for name in inside)
    assert not any(name.startswith(("tests/", "bench/", "docs/")) or name.endswith(".pyc") for name in inside)
    assert f"Version: {__version__}" in metadata
    assert "pattern-storage = pattern_storage.tasks.cli:main" in entry


def test_the_console_script_among_foreign_packages(installed: Path, foreign: Path) -> None:
    environment = clean_environment(PYTHONPATH=str(installed))

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*UNMEASURED, *command], cwd=foreign, env=environment, capture_output=True, text=True)

    script = str(installed / "bin" / "pattern-storage")
    said = run(script, "--version")
    assert (said.returncode, said.stdout, said.stderr) == (0, f"pattern-storage {__version__}\n", "")
    where = run(sys.executable, "-P", "-c", "import tasks, storage, config; print(tasks.__file__, storage.__file__)")
    assert where.stdout.split() == [str(installed / name / "__init__.py") for name in ("tasks", "storage")]
    assert run(script, "--help").returncode == 0
    assert run(script, "insert", "colour=red").returncode == 2


def test_the_demo_runs_from_the_wheel_among_foreign_packages(installed: Path, foreign: Path, home: Path) -> None:
    demo = Running(
        "demo", "--patterns", "20", "--workers", "1",
        command=[*UNMEASURED, str(installed / "bin" / "pattern-storage")], cwd=foreign, log=home / "demo.log",
        PYTHONPATH=str(installed), TMPDIR=str(home),
    )  # fmt: skip
    try:
        demo.wait_for("are up after")
        assert demo.wait() == 0, demo.text
        demo.leaves_nothing()
    finally:
        demo.end()
