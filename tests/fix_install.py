"""Virtual environments that have the built wheel, and nothing of the development's."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.fix_process import ROOT, clean_environment

#: Every version that pyproject.toml's classifiers name.
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
#: Of this process that would change what an installed program finds or measures.
_DEVELOPMENT = ("COV_", "COVERAGE_", "PYTHON", "VIRTUAL_ENV", "PYTEST_")


@cache
def find_python(version: str) -> Path | None:
    """Return an interpreter of a version that starts and can make environments, None if there is none."""
    places = [shutil.which(f"python{version}")]
    # pyenv's programs on PATH refuse a version that is not chosen; what they lead to does not.
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places += map(str, sorted(root.glob(f"versions/{version}*/bin/python{version}")))
    for place in filter(None, places):
        done = subprocess.run([place, "-c", "import ensurepip, ssl, venv"], capture_output=True, check=False)
        if done.returncode == 0:
            return Path(place)
    return None


def environment(**variables: str) -> dict[str, str]:
    """Return what a user's shell has: nothing that configures us, and nothing of this test run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_DEVELOPMENT)}
    return {name: value for name, value in clean_environment(**variables).items() if name in kept or name in variables}


class Installation:
    """A virtual environment with the wheel in it.

    Attributes:
        folder: where it is.
        bin: its programs.
    """

    def __init__(self, folder: Path, python: Path, *requirements: str) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        subprocess.run([str(python), "-m", "venv", str(folder)], check=True, capture_output=True)
        # A cache of the test's own, so that it neither leaves nor finds anything elsewhere.
        installed = self.run("python", "-m", "pip", "install", "--quiet", *requirements, timeout=900)
        assert installed.returncode == 0, installed.stderr

    def run(
        self, program: str, *arguments: str, cwd: Path | None = None, timeout: float = 120, **variables: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run one of its programs, in a folder that holds nothing of ours, and return what it said."""
        return subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=cwd or self.folder, env=self.environment(**variables),
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def python(self, code: str, *, cwd: Path | None = None, **variables: Any) -> str:
        """Run code in it and return what it printed; fails if it raises."""
        done = self.run("python", "-c", code, cwd=cwd, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the variables of a shell in which this environment is activated."""
        cached = {"PIP_CACHE_DIR": str(self.folder.parent / "pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        paths = {"PATH": f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin", "COLUMNS": "200", "NO_COLOR": "1"}
        return environment(**cached | paths | variables)


Install = Callable[..., Installation]


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, `wheel/` built from the checkout and `again/` built from the sdist."""
    folder = tmp_path_factory.mktemp("distributions")

    def build(source: Path, target: Path, *kind: str) -> None:
        # In an environment of its own, as pip does: what the build needs is what pyproject.toml says.
        done = subprocess.run(
            [sys.executable, "-m", "build", *kind, "--outdir", str(target), str(source)],
            env=environment(), cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    build(ROOT, folder, "--sdist")
    build(ROOT, folder / "wheel", "--wheel")
    [sdist] = folder.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder / "unpacked", filter="data")
    [source] = (folder / "unpacked").iterdir()
    build(source, folder / "again", "--wheel")
    return folder


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    """The wheel that a release would upload."""
    [file] = (distributions / "wheel").glob("*.whl")
    return file


@pytest.fixture(scope="session")
def install(wheel: Path) -> Iterator[Callable[..., Installation]]:
    """Install the wheel, `install("worker", python="3.12")`; the same environment for the same arguments."""
    made: dict[Any, Installation] = {}
    # pytest's own folders are 0700, and PostgreSQL, which refuses root, runs as `nobody`; a copy costs seconds.
    folder = Path(tempfile.mkdtemp(prefix="pattern-storage-install-"))
    folder.chmod(0o755)

    def make(extras: str = "", *requirements: str, python: str = "") -> Installation:
        key = (extras, requirements, python)
        if key not in made:
            interpreter = find_python(python) if python else Path(sys.executable)
            if interpreter is None:
                pytest.skip(f"Python {python} is not installed")
            name = "-".join(filter(None, ["env", *extras.split(","), python, str(len(made))]))
            ours = f"{wheel}[{extras}]" if extras else str(wheel)
            made[key] = Installation(folder / name, interpreter, ours, *requirements)
        return made[key]

    yield make
    shutil.rmtree(folder)
