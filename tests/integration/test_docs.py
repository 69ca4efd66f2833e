"""Every code block of README and docs runs, and every table says what the code says."""

import builtins
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

import pattern_storage
from pattern_storage import Pattern, testing
from pattern_storage.config.settings import Settings
from pattern_storage.config.variables import PREFIX
from pattern_storage.storage import pattern
from pattern_storage.storage.operations import OPERATIONS
from pattern_storage.storage.operations.query_params import QueryParams, SortColumn
from pattern_storage.vocabulary import ErrorType
from tests.fix_documents import BLOCK, DOCUMENTS
from tests.fix_process import ROOT


def test_every_operation_has_a_row() -> None:
    readme = DOCUMENTS[0].read_text(encoding="utf-8")
    for operation in OPERATIONS:
        assert f"| `storage.{operation}`" in readme


def test_every_setting_has_a_row_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    documented = {name: default.strip("` ").strip("'") for name, default in rows}
    for name, field in Settings.model_fields.items():
        variable = name.upper() if name.endswith("_url") else f"{PREFIX}{name.upper()}"
        assert variable in documented
        if field.default is not None and field.default_factory is None:
            assert documented[variable] == str(field.default), variable
    assert len(documented) == len(Settings.model_fields)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith(("http", "mailto:")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_are_there(document: Path) -> None:
    named = re.findall(
        r"`((?:bench|config|deploy|docs|examples|pattern_storage|storage|tasks|tests)/[\w/.*]+\.(?:py|sql|lua|md|yml|yaml|sh))`",
        document.read_text(encoding="utf-8"),
    )
    assert [path for path in named if not any(ROOT.glob(path))] == []


def test_tests_that_are_named_are_there() -> None:
    text = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    files = list((ROOT / "tests").rglob("test_*.py"))
    known = {file.name for file in files} | {
        name for file in files for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))
    }
    assert {name for name in re.findall(r"`(test_[\w.]+)`", text) if name not in known} == set()


def test_every_alert_has_its_cure() -> None:
    """Each alert's link leads to a heading of the runbook, and each of these headings belongs to an alert."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    headings = {heading.lower() for heading in re.findall(r"^### (PatternStorage\w+)$", text, re.MULTILINE)}
    links = re.findall(r"runbook_url: docs/operations\.md#(\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert sorted(links) == sorted(headings)
    for anchor in re.findall(r"\]\(#(\w+)\)", text):
        assert anchor in headings


def test_the_tree_in_the_readme_is_the_tree() -> None:
    """Every folder that git knows at the top, and every package in the first two levels, and no other."""
    top: set[str] = set()
    below: set[str] = set()
    parent = ""
    for indent, name in re.findall(r"^    (    )?(\w+)/ +\S", DOCUMENTS[0].read_text(encoding="utf-8"), re.MULTILINE):
        parent = parent if indent else name
        (below if indent else top).add(f"{parent}/{name}" if indent else name)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {str(Path(file).parent) for file in tracked}
    assert top == {folder.split("/")[0] for folder in folders if not folder.startswith(".")}
    packages = {path for path in folders if path.count("/") == 1 and (ROOT / path / "__init__.py").exists()}
    assert below == {
        path for path in packages if path.split("/")[0] in {"pattern_storage", "config", "storage", "tasks"}
    }


def test_examples_import_the_public_names_alone() -> None:
    """`from pattern_storage import ...`, as applications should."""
    for document in DOCUMENTS:
        for language, code in BLOCK.findall(document.read_text(encoding="utf-8")):
            if language == "python":
                assert not re.search(
                    r"^\s*(from|import) (config|storage|tasks|pattern_storage\.(?!embedded|testing))\b", code, re.M
                )


def test_the_glossary_is_short() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    [glossary] = re.findall(r"^## Words\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert 1 < len(re.findall(r"\*(\w[\w ]+)\*:", glossary)) <= 12


def test_the_extras_have_rows() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `pattern-storage\[(\w+)\]` \|", text, re.MULTILINE))
    assert rows == set(extras) - {"dev", "bench", "browser", "docs"}


def test_every_public_name_is_listed() -> None:
    """On the page that needs no `make docs`, and in the reference; methods of clients and jobs on the page."""
    page = (ROOT / "docs/names.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`(\w+)(?:\([^`]*\))?`", page))
    assert set(pattern_storage.__all__) | set(testing.__all__) <= listed
    for kind in (pattern_storage.PatternStorageClient, pattern_storage.Job, testing.JobLog, testing.SubmittedJob):
        public = {name for name in dir(kind) if not name.startswith("_")} - {"publish", "add"}
        assert public <= listed, public - listed
    reference = (ROOT / "docs/api.rst").read_text(encoding="utf-8")
    assert set(pattern_storage.__all__) == set(re.findall(r":: pattern_storage\.(\w+)$", reference, re.M)) - {
        "vocabulary"
    }


def rows_of(heading: str) -> dict[str, list[str]]:
    """The other cells of each name in the table of this section of docs/names.md; a row may have several names."""
    text = (ROOT / "docs/names.md").read_text(encoding="utf-8")
    [section] = re.findall(rf"^## {heading}$(.*?)^## ", text, re.M | re.S)
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {name: cells for names, *cells in rows for name in re.findall(r"`(\w+)`", names)}


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"\d(?:[\d,]*\d)?", text))


def limits(schema: Any) -> set[str]:
    """The limits of numbers, and of the length of texts and lists, anywhere in a JSON schema."""
    if isinstance(schema, list):
        return set().union(*map(limits, schema))
    if not isinstance(schema, dict):
        return set()
    keys = {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"} & schema.keys()
    return {f"{int(schema[key]):,}" for key in keys}.union(*map(limits, schema.values()))


def test_every_column_has_a_row_with_its_limits_and_default() -> None:
    rows = rows_of("Columns of a pattern")
    schema = Pattern.model_json_schema()["properties"]
    assert set(rows) == set(Pattern.model_fields)
    for column, (value, default) in rows.items():
        field = Pattern.model_fields[column]
        assert limits(schema[column]) <= numbers_in(value), column
        expected = json.dumps(field.default) if isinstance(field.default, str) else str(field.default)
        assert default.strip("`") == ("required" if field.is_required() else expected), column
    assert f"{pattern.MAX_TEXT_BYTES // 2**20} MiB" in rows["template_code"][0]
    assert f"{pattern.MAX_CONTEXT_BYTES // 2**10} KiB" in rows["context"][0]


def test_every_parameter_of_a_query_has_a_row() -> None:
    rows = rows_of("Parameters of a query")
    assert set(rows) == set(QueryParams.model_fields)
    assert set(re.findall(r"`(\w+)`", rows["order_by"][0])) == set(get_args(SortColumn))
    assert limits(QueryParams.model_json_schema()["properties"]["limit"]) <= numbers_in(rows["limit"][0])


def test_every_exception_that_is_named_can_be_imported() -> None:
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    [table] = re.findall(r"^## Exceptions of the client$(.*?)^## ", text, re.M | re.S)
    rows = re.findall(r"^\| `(\w+)`(?: \(an? `(\w+)`\))?", table, re.M)
    assert len(rows) > 8
    for name, base in rows:
        assert issubclass(getattr(pattern_storage, name), getattr(builtins, base or "Exception"))


def test_every_error_type_has_its_cure() -> None:
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs/errors.md").read_text(encoding="utf-8")))
    assert {str(kind) for kind in ErrorType} <= named
    # What applications can catch.
    errors = {name for name in pattern_storage.__all__ if isinstance(getattr(pattern_storage, name), type)
              and issubclass(getattr(pattern_storage, name), Exception)}  # fmt: skip
    assert errors - {"JobError", "ServiceUnavailable"} <= named
