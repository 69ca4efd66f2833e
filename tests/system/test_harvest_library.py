"""The whole standard library as patterns."""

import ast
import json
import warnings
from collections import Counter
from typing import Any

import pytest

from pattern_storage.extract import MAX_CODE_BYTES, harvest, standard_library
from pattern_storage.extract.definition import definitions

Pattern = dict[str, Any]
COLUMNS = {
    *("pattern_name", "pattern_type", "language", "category", "template_code", "description"),
    *("example_usage", "source", "complexity_score", "tags", "context"),
}


@pytest.fixture(scope="module")
def library() -> list[Pattern]:
    return list(harvest(standard_library()))


def test_the_standard_library_gives_thousands_of_patterns_of_every_type(library: list[Pattern]) -> None:
    types = Counter(pattern["pattern_type"] for pattern in library)
    assert set(types) == {"function", "async_function", "method", "class"}
    assert types["class"] > 1000
    assert len(library) > 3000
    assert {"json", "asyncio", "venv", "unittest"} < {pattern["category"] for pattern in library}


def test_every_pattern_of_the_standard_library_keeps_the_limits_of_the_table(library: list[Pattern]) -> None:
    for pattern in library:
        assert set(pattern) == COLUMNS
        assert 1 <= len(pattern["pattern_name"]) <= 255
        assert pattern["language"] == "python"
        assert 1 <= pattern["complexity_score"] <= 10
        assert len(pattern["tags"]) == len(set(pattern["tags"])) <= 64
        assert all(1 <= len(tag) <= 100 for tag in pattern["tags"])
        assert 1 <= len(pattern["template_code"].encode()) <= MAX_CODE_BYTES
        assert pattern["description"] != ""
        assert pattern["example_usage"] != ""
        assert pattern["context"]["line"] <= pattern["context"]["end_line"]
        assert all("\0" not in value for value in pattern.values() if isinstance(value, str))
        assert json.loads(json.dumps(pattern, ensure_ascii=False).encode()) == pattern


def test_no_two_patterns_of_the_standard_library_collide(library: list[Pattern]) -> None:
    keys = {(pattern["pattern_name"], pattern["pattern_type"], pattern["language"]) for pattern in library}
    assert len(keys) == len(library)


def test_every_pattern_of_the_standard_library_is_code_of_its_own(library: list[Pattern]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for pattern in library:
            (node,) = ast.parse(pattern["template_code"]).body
            assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            assert node.name == pattern["context"]["qualname"].rpartition(".")[2]


def test_a_package_alone_gives_what_it_gives_within_the_library(library: list[Pattern]) -> None:
    for package in ("json", "asyncio"):
        assert list(harvest(standard_library() / package)) == [p for p in library if p["category"] == package]
    by_name = {pattern["pattern_name"]: pattern for pattern in library}
    assert by_name["json.dumps"]["description"] == "Serialize ``obj`` to a JSON formatted ``str``."
    assert by_name["json.decoder.JSONDecoder.decode"]["context"]["arguments"][:2] == ["self", "s"]
    assert "async" in by_name["asyncio.locks.Lock.acquire"]["tags"]
    assert ">>> " in by_name["collections.Counter"]["example_usage"]


def test_the_standard_library_s_own_bad_files_are_skipped_with_a_reason() -> None:
    tests = standard_library() / "test" / "tokenizedata"
    if not tests.is_dir():
        pytest.skip("this Python was installed without its test suite")
    reasons: dict[str, str] = {}
    list(harvest(tests, on_skip=lambda file, why: reasons.update({file.name: why})))
    assert {"bad_coding.py", "badsyntax_3131.py"} <= set(reasons)


def test_harvested_source_still_means_the_same() -> None:
    compared = 0
    # Strings of every awkward shape, in packages that every distribution of Python has.
    for file in sorted(
        file for name in ("email", "asyncio", "unittest") for file in (standard_library() / name).glob("*.py")
    ):
        text = file.read_text(encoding="utf-8")
        for definition in definitions(ast.parse(text), text.split("\n")):
            assert meaning(ast.parse(definition.code).body[0]) == meaning(definition.node), definition.qualname
            compared += 1
    assert compared > 1000


def meaning(node: ast.AST) -> str:
    """The syntax tree without positions, docstrings up to white space."""
    for child in ast.walk(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant) and isinstance(child.value.value, str):
            child.value.value = " ".join(child.value.value.split())
    return ast.dump(node)
