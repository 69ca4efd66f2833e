"""Another user than the one of the tests, who can run this checkout."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_process import ROOT


def other_python(user: int, folder: Path) -> tuple[str, dict[str, str]]:
    """Return a Python that this user can run with this checkout, and the environment it needs; skip without."""
    # What redis needs on Python before 3.11.3, which the tests' own Python may be newer than.
    shims = folder / "shims"
    shims.mkdir(0o755)
    (shims / "async_timeout.py").write_text("from asyncio import timeout\n")
    path = os.pathsep.join([str(ROOT), *sys.path, str(shims)])
    environment = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # The interpreter of the tests may stand in root's home.
    for python in filter(None, [sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin")]):
        with contextlib.suppress(PermissionError):
            attempt = [python, "-c", "import pattern_storage.tasks.cli"]
            if subprocess.run(attempt, cwd="/", user=user, extra_groups=[], env=environment).returncode == 0:
                return python, environment
    pytest.skip("another user cannot run a Python of this version with this checkout")
