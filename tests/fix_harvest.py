"""Source files to harvest, and what was found in them."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pattern_storage.extract import harvest

Pattern = dict[str, Any]
Write = Callable[[str, str], Path]


@pytest.fixture
def write_source(tmp_path: Path) -> Write:
    """Write a source file: `write_source(name, source)` returns its path."""

    def write(name: str, source: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    return write


def only(path: Path) -> Pattern:
    """Return the only pattern of a file or folder."""
    (pattern,) = harvest(path)
    return dict(pattern)


def named(path: Path) -> dict[str, Pattern]:
    """Return patterns by name."""
    return {pattern["pattern_name"]: pattern for pattern in harvest(path)}


def skipped(path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the names of patterns, and why each file was skipped."""
    reasons: dict[str, str] = {}
    names = [p["pattern_name"] for p in harvest(path, on_skip=lambda file, why: reasons.update({file.name: why}))]
    return names, reasons
