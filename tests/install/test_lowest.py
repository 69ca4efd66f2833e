"""The lowest versions that pyproject.toml allows: they exist, fit together, and work."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from tests.fix_install import Install
from tests.fix_process import ROOT
from tests.fix_up import Running

#: What only a developer's environment has; its lowest versions are of no user's concern.
TOOLS = {"bench", "browser", "dev", "docs"}


def lowest_versions() -> list[str]:
    """Return `name==version` of each dependency and of all extras that users install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [texts for extra, texts in project["optional-dependencies"].items() if extra not in TOOLS]
    pinned = set()
    for text in sum(extras, project["dependencies"]):
        wanted = Requirement(text)
        if wanted.name != "pattern-storage" and (wanted.marker is None or wanted.marker.evaluate()):
            [lowest] = (one.version for one in wanted.specifier if one.operator in (">=", "=="))
            pinned.add(f"{wanted.name}=={lowest}")
    return sorted(pinned)


def test_the_lowest_versions(install: Install, home: Path) -> None:
    # Each is exactly this one: a floor that another dependency lifts, or that was never released, does not install.
    installation = install("all,dev", *lowest_versions())
    assert installation.run("pip", "check").returncode == 0
    # The lowest pytest leaves event loops open, and reports one in whichever test the collector finds it.
    tests = ("-W", "ignore::pytest.PytestUnraisableExceptionWarning", "tests/unit", "tests/transport/test_idle.py")
    done = installation.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=ROOT, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    demo = Running(
        "demo", "--workers", "1", "--patterns", "20", command=[str(installation.bin / "pattern-storage")], cwd=home,
        log=home / "demo.log",
        environment=installation.environment(PATTERN_STORAGE_DATA_DIR=str(home / "data"), TMPDIR=str(home)),
    )  # fmt: skip
    try:
        demo.wait_for("are up after")
        assert demo.wait() == 0, demo.text
    finally:
        demo.end()
