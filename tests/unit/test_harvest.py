"""Patterns from real source: small files that hold one difficulty each, and the whole standard library."""

import ast
import os
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pattern_storage.extract import MAX_CODE_BYTES, MAX_FILE_BYTES, HarvestError, harvest

Pattern = dict[str, Any]
Write = Callable[[str, str], Path]
COLUMNS = {
    *("pattern_name", "pattern_type", "language", "category", "template_code", "description"),
    *("example_usage", "source", "complexity_score", "tags", "context"),
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, source: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    return write


def only(path: Path) -> Pattern:
    (pattern,) = harvest(path)
    return dict(pattern)


def named(path: Path) -> dict[str, Pattern]:
    return {pattern["pattern_name"]: pattern for pattern in harvest(path)}


def skipped(path: Path) -> tuple[list[str], dict[str, str]]:
    reasons: dict[str, str] = {}
    names = [p["pattern_name"] for p in harvest(path, on_skip=lambda file, why: reasons.update({file.name: why}))]
    return names, reasons


# --- the columns -------------------------------------------------------------------------------------------


def test_a_function_becomes_the_data_of_an_insert(write: Write) -> None:
    path = write(
        "shapes/area.py",
        '''\
        import functools


        @functools.cache
        def square(side: float, /, *sizes: int, unit: str = "m", **rest: int) -> float:
            """Area of a square,
            in square units.

            >>> square(2)
            4
            >>> for side in (1, 2):
            ...     square(side)
            1
            4
            """
            return side * side if side > 0 else 0
        ''',
    )
    assert only(path.parent.parent) == {
        "pattern_name": "shapes.area.square",
        "pattern_type": "function",
        "language": "python",
        "category": "shapes",
        "template_code": path.read_text().partition("\n\n\n")[2].rstrip("\n"),
        "description": "Area of a square,\nin square units.",
        "example_usage": ">>> square(2)\n4\n>>> for side in (1, 2):\n...     square(side)\n1\n4",
        "source": "shapes.area:4",
        "complexity_score": 1,
        "tags": ["typed", "documented", "decorated", "cache"],
        "context": {
            "module": "shapes.area",
            "qualname": "square",
            "line": 4,
            "end_line": 16,
            "complexity": 1,
            "arguments": ["side", "sizes", "unit", "rest"],
        },
    }


def test_every_kind_of_definition_in_source_order_but_none_local_to_a_function(write: Write) -> None:
    path = write(
        "kinds.py",
        """\
        def first():
            def local(): pass
            class Local: pass
        if first:
            async def chosen(): pass
        else:
            try:
                pass
            except Exception:
                def fallback(): pass
        class Outer(dict, metaclass=type):
            def method(self): pass
            async def coroutine(self): pass
            class Inner(collections.abc.Mapping[str, int]):
                if True:
                    def deep(self): pass
        match first:
            case 1:
                def last(): pass
        """,
    )
    found = {p["pattern_name"].removeprefix("kinds."): p["pattern_type"] for p in harvest(path)}
    assert list(found.items()) == [
        ("first", "function"),
        ("chosen", "async_function"),
        ("fallback", "function"),
        ("Outer", "class"),
        ("Outer.method", "method"),
        ("Outer.coroutine", "method"),
        ("Outer.Inner", "class"),
        ("Outer.Inner.deep", "method"),
        ("last", "function"),
    ]
    patterns = named(path)
    assert patterns["kinds.Outer"]["context"]["bases"] == ["dict"]
    assert patterns["kinds.Outer"]["context"]["methods"] == ["method", "coroutine"]
    assert patterns["kinds.Outer.Inner"]["context"]["bases"] == ["collections.abc.Mapping"]


@pytest.mark.parametrize(
    ("source", "tags"),
    [
        ("def f(x): return 1", []),
        ("def f() -> int: return 1", ["typed"]),
        ("def f(x: int, *a, y: int) -> int: return 1", []),
        ("def _f(): pass", ["private"]),
        ("def __f__(): pass", []),
        ("async def f(): yield 1", ["async", "generator"]),
        ("def f(): return lambda: (yield)", []),
        ("def f():\n    def g(): yield", []),
        ("def f(): x = yield from g()", ["generator"]),
        ("@a.b.contextmanager\n@a.b.contextmanager()\ndef f(): pass", ["decorated", "contextmanager"]),
        ("@(lambda f: f)\ndef f(): pass", ["decorated"]),
        ("@dataclass(frozen=True)\nclass A: 'doc'", ["documented", "decorated", "dataclass"]),
        (f"@{'d' * 300}\ndef f(): pass", ["decorated", "d" * 100]),
    ],
)
def test_tags(write: Write, source: str, tags: list[str]) -> None:
    assert only(write("m.py", source))["tags"] == tags


def test_self_needs_no_annotation_but_the_first_argument_of_a_static_method_does(write: Write) -> None:
    patterns = named(
        write(
            "m.py",
            """\
            class A:
                def method(self, x: int) -> int: ...
                @staticmethod
                def static(x, y: int) -> int: ...
            """,
        )
    )
    assert patterns["m.A.method"]["tags"] == ["typed"]
    assert patterns["m.A.static"]["tags"] == ["decorated", "staticmethod"]


def test_no_more_tags_than_the_table_takes(write: Write) -> None:
    decorators = "".join(f"@d{number}\n" for number in range(100))
    assert len(only(write("m.py", f"{decorators}def f(): pass"))["tags"]) == 64


@pytest.mark.parametrize(
    ("body", "raw"),
    [
        ("pass", 1),
        ("if x: pass", 2),
        ("if x: pass\nelif y: pass\nelse: pass", 3),
        ("if x: pass\nelse:\n    if y: pass\n    z()", 3),
        ("for x in y:\n    while z: pass", 3),
        ("try: pass\nexcept A: pass\nexcept B: pass\nelse: pass", 4),
        ("try: pass\nexcept* A: pass\nexcept* B: pass\nelse: pass", 4),
        ("match x:\n    case 1: pass\n    case 2: pass", 3),
        ("match x:\n    case 1: pass\n    case 2: pass\n    case _: pass", 3),
        ("match x:\n    case 1: pass\n    case _ if y: pass", 3),
        ("match x:\n    case _: pass", 2),
        ("if x: pass\n" + "elif x: pass\n" * 900, 902),
        ("\n".join(" " * depth + "if x:" for depth in range(95)) + "\n" + " " * 95 + "pass", 96),
    ],
)
def test_complexity_is_kept_raw_and_scored_from_1_to_10(write: Write, body: str, raw: int) -> None:
    pattern = only(write("m.py", f"def f(x, y, z):\n{textwrap.indent(body, '    ')}\n"))
    assert pattern["context"]["complexity"] == raw
    assert pattern["complexity_score"] == min(raw, 10)


def test_a_class_is_as_complex_as_its_most_complex_method(write: Write) -> None:
    source = """\
        class A:
            if True:
                def f(self): pass
                def g(self, x):
                    if x: pass
                    if x: pass
        class Empty: pass
    """
    patterns = named(write("m.py", source))
    assert patterns["m.A"]["context"]["complexity"] == 3
    assert patterns["m.Empty"]["context"]["complexity"] == 1


@pytest.mark.parametrize(
    ("docstring", "description", "example"),
    [
        ('""', None, None),
        (r'"""   \n\n  """', None, None),
        (r'"nul \0 and \ud800 surrogate"', "nul \\x00 and \\ud800 surrogate", None),
        ('"""Bad session.\n\n    >>>print(1)\n    """', "Bad session.", None),
        ('"""Uneven.\n\n        >>> print(1)\n      1\n    """', "Uneven.", None),
        ('"""Silent.\n\n    >>> x = 1\n    """', "Silent.", ">>> x = 1"),
    ],
)
def test_docstrings_are_stored_as_far_as_they_can_be(
    write: Write, docstring: str, description: str | None, example: str | None
) -> None:
    pattern = only(write("m.py", f"def f():\n    {docstring}\n"))
    assert (pattern["description"], pattern["example_usage"]) == (description, example)


# --- the source --------------------------------------------------------------------------------------------


def test_dedenting_moves_code_and_docstrings_but_changes_no_other_string(write: Write) -> None:
    path = write(
        "m.py",
        '''\
        class A:
            @(
                decorate
            )
            def f(self):
                """Doc.

                More.
                """
                # comment
                return (
                    "adjacent"
                    "strings",
                    f"""{self}
                    indented
        not indented""",
                    "continued\\
                    line",
                )  # tail
        ''',
    )
    assert named(path)["m.A.f"]["template_code"] == textwrap.dedent('''\
        @(
            decorate
        )
        def f(self):
            """Doc.

            More.
            """
            # comment
            return (
                "adjacent"
                "strings",
                f"""{self}
                    indented
        not indented""",
                "continued\\
                    line",
            )  # tail''')


def test_a_string_continued_by_a_backslash_keeps_its_spaces(write: Write) -> None:
    path = write("m.py", "class A:\n    def f(self):\n        return 'a\\\n        b'\n")
    assert named(path)["m.A.f"]["template_code"] == "def f(self):\n    return 'a\\\n        b'"


def test_lines_end_where_the_parser_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_bytes(
        "x = '\u2028 \x85 \x0b'\r\n\x0c\r\nclass A:\r\n\x0c    def f(self):\r\n        return 1\r\n".encode()
    )
    assert named(path)["m.A.f"]["template_code"] == "def f(self):\n    return 1"


def test_code_up_to_one_mebibyte_is_taken_and_a_byte_more_is_skipped(write: Write) -> None:
    start = "def f(): pass  # é"  # the limit is on bytes: é has two
    path = write("fits.py", start + "x" * (MAX_CODE_BYTES - len(start.encode())))
    write("large.py", path.read_text() + "x\ndef g(): pass\n")
    names, reasons = skipped(path.parent)
    assert names == ["fits.f", "large.g"]
    assert reasons == {"large.py": "f in line 1 has 1048577 bytes of source, more than the 1048576 of a pattern."}


# --- files that are not what they should be ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"def f(:\n", "cannot parse the file: invalid syntax in line 1."),
        (b"print 'x'\n", "cannot parse the file: Missing parentheses"),
        (b"def f(): return '\0'\n", "null bytes"),
        (b"# coding: no-such\n", "The file cannot be decoded: unknown encoding"),
        (b"# coding: hex\n", "The file cannot be decoded: 'hex' is not a text encoding"),
        (b"x = '\xff'\n", "The file cannot be decoded: "),
        (b"# coding: ascii\n" + b"#\n" * 9000 + b"x = '\xff'\n", "The file cannot be decoded: 'ascii' codec"),
        (b"# coding: utf-7\nx = '+2AA-'\n", "cannot parse the file: 'utf-8' codec can't encode"),
        (b"x = " + b"-" * 100_000 + b"1\n", "cannot parse the file: "),
        (b"x = " + b"+".join([b"1"] * 200_000) + b"\n", "cannot parse the file: "),
    ],
)
def test_a_bad_file_is_reported_and_the_next_one_harvested(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.py").write_bytes(content)
    (tmp_path / "good.py").write_text("def f(): pass\n")
    names, reasons = skipped(tmp_path)
    assert names == ["good.f"]
    assert list(reasons) == ["bad.py"]
    assert reason in reasons["bad.py"]
    assert reasons["bad.py"].endswith(".")
    assert [p["pattern_name"] for p in harvest(tmp_path)] == names  # on_skip is optional


@pytest.mark.parametrize(
    "content",
    [
        "# -*- coding: latin-1 -*-\ndef f(): return 'é'\n".encode("latin-1"),
        b"\xef\xbb\xbf" + "def f(): return 'é'\n".encode(),
    ],
)
def test_the_encoding_a_file_declares_is_honoured(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.py").write_bytes(content)
    assert only(tmp_path / "m.py")["template_code"] == "def f(): return 'é'"


def test_warnings_about_foreign_source_do_not_get_out(write: Write) -> None:
    path = write("m.py", r"def f(): return '\d' is 1")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        for pattern in harvest(path):
            assert pattern["pattern_name"] == "m.f"
            assert list(warnings.filters) == before  # nor are the caller's filters changed meanwhile
        assert caught == []
        ast.parse(path.read_text())
    assert caught  # so the source does warn where nobody holds it back


def test_a_file_too_large_to_parse_is_skipped_unread(tmp_path: Path) -> None:
    with (tmp_path / "large.py").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    names, reasons = skipped(tmp_path)
    assert not names
    assert reasons == {"large.py": "The file has 16777217 bytes, more than the 16777216 that are parsed."}


def test_links_and_pipes_do_not_hang(write: Write, tmp_path: Path) -> None:
    write("pkg/real.py", "def f(): pass")
    (tmp_path / "pkg" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "pkg" / "linked.py").symlink_to("real.py")
    (tmp_path / "pkg" / "dangling.py").symlink_to("nowhere")
    (tmp_path / "pkg" / "self.py").symlink_to("self.py")
    os.mkfifo(tmp_path / "pkg" / "pipe.py")
    names, reasons = skipped(tmp_path)
    assert names == ["pkg.linked.f", "pkg.real.f"]
    assert reasons == dict.fromkeys(["dangling.py", "pipe.py", "self.py"], "It is not a regular file.")
    with pytest.raises(HarvestError, match=r"There is nothing to harvest at .*self"):
        harvest(tmp_path / "pkg" / "self.py")


def test_a_path_that_cannot_be_harvested_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(HarvestError, match=r"notes\.txt' is neither a directory nor a Python file"):
        harvest(tmp_path / "notes.txt")
    with pytest.raises(HarvestError, match=r"There is nothing to harvest at .*missing.*: No such file"):
        harvest(tmp_path / "missing")


def test_files_are_read_one_by_one_as_patterns_are_taken(write: Write) -> None:
    write("a.py", "def f(): pass")
    later = write("b.py", "def f(): pass")
    patterns = harvest(later.parent)
    next(patterns)
    later.write_text("def changed(): pass")
    assert next(patterns)["pattern_name"] == "b.changed"


# --- names -------------------------------------------------------------------------------------------------


def test_a_module_has_one_name_whichever_path_leads_to_it(write: Write, tmp_path: Path) -> None:
    write("pkg/__init__.py", "def top(): pass")
    write("pkg/sub/__init__.py", "")
    file = write("pkg/sub/mod.py", "def f(): pass")
    assert list(named(tmp_path)) == ["pkg.top", "pkg.sub.mod.f"]
    assert list(named(tmp_path / "pkg")) == ["pkg.top", "pkg.sub.mod.f"]
    assert list(named(tmp_path / "pkg" / "sub" / ".." / "sub")) == ["pkg.sub.mod.f"]
    assert only(file)["pattern_name"] == "pkg.sub.mod.f"
    assert only(file)["category"] == "pkg"


def test_files_outside_packages_are_named_from_the_root(write: Write, tmp_path: Path) -> None:
    write("__init__/x.py", "def f(): pass")
    write("scripts/my-tool.py", "def f(): pass")
    write("scripts/.hidden.py", "def f(): pass")
    assert list(named(tmp_path)) == ["__init__.x.f", "scripts..hidden.f", "scripts.my-tool.f"]
    assert only(tmp_path / "scripts" / ".hidden.py")["category"] == "hidden"


def test_a_redefinition_gets_a_number_within_its_own_type(write: Write, tmp_path: Path) -> None:
    write("a.py", "def b(): pass\ndef b(): pass\nclass b: pass\ndef b(): pass")
    write("b.py", "class A:\n    @property\n    def x(self): pass\n    @x.setter\n    def x(self, value): pass")
    found = [(p["pattern_name"], p["pattern_type"]) for p in harvest(tmp_path)]
    assert found == [
        ("a.b", "function"),
        ("a.b#2", "function"),
        ("a.b", "class"),
        ("a.b#3", "function"),
        ("b.A", "class"),
        ("b.A.x", "method"),
        ("b.A.x#2", "method"),
    ]


def test_names_too_long_for_the_table_are_cut_and_stay_distinct(write: Write) -> None:
    path = write("m.py", "".join(f"def {'f' * 300}{number}(): pass\n" for number in range(12)))
    names = list(named(path))
    assert len(names) == 12
    assert {len(name) for name in names} == {255}
    assert names[1].endswith("ff#2")
    assert names[11].endswith("ff#12")


def test_a_file_name_that_is_no_text_is_escaped(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.py")).write_text("def f(): pass")
    assert only(tmp_path)["pattern_name"] == "caf\\udce9.f"


def test_excluded_directories_count_below_the_root_only(write: Write, tmp_path: Path) -> None:
    write("test/m.py", "def f(): pass")
    write("test/tests/m.py", "def f(): pass")
    write("test/mine/test.py", "def f(): pass")
    assert list(named(tmp_path)) == []
    assert list(named(tmp_path / "test")) == ["m.f", "mine.test.f"]
    assert [p["pattern_name"] for p in harvest(tmp_path / "test", exclude=["mine"])] == ["m.f", "tests.m.f"]
