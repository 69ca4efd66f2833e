"""Wheel and sdist: what is in them."""

import re
import tarfile
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from pattern_storage.version import __version__
from tests.fix_process import ROOT

#: What stands beside the package in the sdist: the build reads these, or a reader wants them.
METADATA = {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_carries_the_package_and_nothing_else(wheel: Path) -> None:
    inside = contents(wheel)
    information = f"pattern_storage-{__version__}.dist-info"
    assert {PurePosixPath(name).parts[0] for name in inside} == {"pattern_storage", information}
    # Through the links: what an import finds in a checkout is what the wheel has.
    folders = [ROOT / "pattern_storage", *(path for path in (ROOT / "pattern_storage").iterdir() if path.is_symlink())]
    files = {
        str(file.relative_to(ROOT))
        for folder in folders
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {name for name in inside if not name.startswith(information)} == files
    assert {"pattern_storage/config/settings.py", "pattern_storage/storage/sql/patterns.sql"} < files
    metadata = inside[f"{information}/METADATA"].decode()
    assert f"Version: {__version__}" in metadata
    assert re.search(r"^Project-URL: ", metadata, re.MULTILINE)
    assert f"{information}/licenses/LICENSE" in inside
    assert b"pattern-storage = pattern_storage.__main__:main" in inside[f"{information}/entry_points.txt"]


def test_the_sdist_carries_no_link(distributions: Path) -> None:
    [file] = distributions.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    names = [PurePosixPath(member.name).relative_to(f"pattern_storage-{__version__}") for member in members]
    assert {name.parts[0] for name in names} == {"pattern_storage", *METADATA}


def test_the_same_wheel_comes_out_of_checkout_and_sdist(distributions: Path, wheel: Path) -> None:
    [again] = (distributions / "again").glob("*.whl")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)
