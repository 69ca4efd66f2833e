"""CONTRIBUTING.md: its lists of files lead somewhere, and name what the code really needs."""

import re
import tomllib
from collections.abc import Callable
from typing import get_args

import pytest

from pattern_storage.storage.sql import block
from pattern_storage.tasks.cli import COMMANDS
from pattern_storage.tasks.imports.plan.model import SUFFIXES, Format
from pattern_storage.tasks.imports.sources.formats import PARSERS
from pattern_storage.vocabulary import OperationName
from tests.fix_process import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LISTS = {
    title: re.findall(r"^- `([^`]+)`: ", section, re.MULTILINE)
    for title, section in re.findall(r"^## To add an? (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}


def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def test_there_is_a_list_for_everything_that_is_added() -> None:
    assert set(LISTS) == {"operation", "import format", "metric", "command", "page of Flower", "broker", "migration"}
    assert all(2 <= len(files) <= 7 for files in LISTS.values())


@pytest.mark.parametrize(("title", "file"), [(title, file) for title, files in LISTS.items() for file in files])
def test_its_files_are_there(title: str, file: str) -> None:
    for operation in OperationName:
        assert (ROOT / file.replace("<operation>", operation)).exists()


def _sql(operation: OperationName) -> bool:
    names = re.findall(r'(?:block|text_of|statement)\("(\w+_patterns?)"', text_of(f"storage/operations/{operation}.py"))
    return bool(names) and all(
        block(name) and f"-- name: {name}\n" in text_of("storage/sql/patterns.sql") for name in names
    )


#: How an operation is known to stand in a file of the list.
APPEARS: dict[str, Callable[[OperationName], bool]] = {
    "pattern_storage/vocabulary.py": lambda one: f'{one.name} = "{one}"' in text_of("pattern_storage/vocabulary.py"),
    "storage/required_fields.py": lambda one: (
        f"case OperationName.{one.name}:" in text_of("storage/required_fields.py")
    ),
    "storage/operations/<operation>.py": lambda one: "def apply(" in text_of(f"storage/operations/{one}.py"),
    "storage/operations/__init__.py": lambda one: (
        f"OperationName.{one.name}: " in text_of("storage/operations/__init__.py")
    ),
    "storage/sql/patterns.sql": _sql,
    "tasks/client/operations.py": lambda one: f"def {one}(" in text_of("tasks/client/operations.py"),
    "README.md": lambda one: f"| `storage.{one}`" in text_of("README.md"),
}


def test_every_operation_is_in_each_file_of_its_list() -> None:
    assert set(APPEARS) == set(LISTS["operation"])
    for file, appears in APPEARS.items():
        for operation in OperationName:
            assert appears(operation), (file, operation)


def test_every_format_is_where_its_list_says() -> None:
    formats = set(get_args(Format))
    assert set(PARSERS) == formats == set(SUFFIXES.values())
    for name in formats:
        assert f"`{name}`" in text_of("docs/imports.md")
        suffixes = [suffix for suffix, of in SUFFIXES.items() if of == name]
        assert any(suffix in text_of("tests/integration/test_import_formats.py") for suffix in suffixes)


def test_every_metric_is_where_its_list_says() -> None:
    instruments = text_of("tasks/observability/metrics/instruments.py")
    for attribute, name in re.findall(r"self\.(\w+) = (?:counter|histogram|gauge)\(\s*\"(\w+)\"", instruments):
        assert f"`pattern_storage_{name}" in text_of("docs/metrics.md")
        used = "".join(text.read_text() for text in (ROOT / "tasks").rglob("*.py") if text.name != "instruments.py")
        assert re.search(rf"\.{attribute}\b", used), attribute


def test_every_command_is_in_the_module_that_its_list_names() -> None:
    module = text_of("tasks/cli/__init__.py")
    for command in COMMANDS:
        assert command.__module__.startswith("pattern_storage.tasks.cli.")
        assert command.__module__.rpartition(".")[2] in module


def test_migrations_follow_each_other_by_number() -> None:
    before = "None"
    for path in sorted((ROOT / "storage/migrations/versions").glob("[0-9]*.py")):
        revision = f'"pattern_storage_{path.name[:4]}"'
        text = path.read_text()
        assert f"\nrevision = {revision}\n" in text
        assert f"\ndown_revision = {before}\n" in text
        before = revision


def test_every_table_is_in_the_rights_of_the_services() -> None:
    migrations = "".join(path.read_text() for path in (ROOT / "storage/migrations/versions").glob("*.py"))
    tables = set(re.findall(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", migrations))
    assert tables
    for table in tables:
        assert re.search(rf"\b{table}\b", text_of("storage/sql/roles.sql")), table


def test_what_it_says_of_tools_is_so() -> None:
    makefile = text_of("Makefile")
    for target in re.findall(r"^make ([\w-]+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "deptry" in " ".join(tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]["dev"])
