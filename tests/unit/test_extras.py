"""The extras: what the code takes them for is what pyproject.toml says they bring."""

import re
import tomllib
from importlib.metadata import packages_distributions

import pytest

from pattern_storage.extras import MODULES, ExtraMissing, extra_of, require
from tests.fix_process import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Extras that stand for others, and those of development.
OTHERS = {"up", "all", "bench", "browser", "dev", "docs"}


def normalized(name: str) -> str:
    """Return the one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(requirements: list[str]) -> set[str]:
    """Return the names that requirements begin with, but for our own."""
    names = {normalized(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}
    return names - {"pattern-storage"}


def test_every_extra_is_known_to_the_code() -> None:
    assert set(MODULES) == set(PROJECT["optional-dependencies"]) - OTHERS


@pytest.mark.parametrize("extra", MODULES)
def test_every_module_comes_from_a_distribution_of_its_extra(extra: str) -> None:
    brought = distributions(PROJECT["optional-dependencies"][extra])
    installed = packages_distributions()
    for module in MODULES[extra]:
        # What is not installed here has the name of its distribution.
        names = {normalized(name) for name in installed.get(module, [module])}
        assert names & brought, module


def test_every_distribution_of_the_worker_is_looked_for() -> None:
    """A worker host that lacks one is told so before it starts; Python has zstd of its own since 3.14."""
    installed = packages_distributions()
    looked_for = {normalized(name) for module in MODULES["worker"] for name in installed[module]}
    assert distributions(PROJECT["optional-dependencies"]["worker"]) - looked_for <= {"backports-zstd"}


def test_plain_has_nothing_of_an_extra() -> None:
    plain = distributions(PROJECT["dependencies"])
    for extra in MODULES:
        assert not plain & distributions(PROJECT["optional-dependencies"][extra])


def test_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULES, "s3", ("no_such_module",))
    with pytest.raises(ExtraMissing, match=r"^an import needs the extra 's3': pip install 'pattern-storage\[s3\]'$"):
        require("an import", "s3")
    require("the command line", "worker")


def test_the_extra_of_a_module() -> None:
    assert (extra_of("rich.text"), extra_of("flower"), extra_of("json"), extra_of(None)) == (
        "worker", "flower", None, None,
    )  # fmt: skip
