"""Columns of a harvested pattern: description, tags, complexity, and the kinds of definitions."""

import textwrap

import pytest

from pattern_storage.extract import harvest
from tests.fix_harvest import Write, named, only


def test_a_function_becomes_the_data_of_an_insert(write_source: Write) -> None:
    path = write_source(
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


def test_every_kind_of_definition_in_source_order_but_none_local_to_a_function(write_source: Write) -> None:
    path = write_source(
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
def test_tags(write_source: Write, source: str, tags: list[str]) -> None:
    assert only(write_source("m.py", source))["tags"] == tags


def test_self_needs_no_annotation_but_the_first_argument_of_a_static_method_does(write_source: Write) -> None:
    patterns = named(
        write_source(
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


def test_no_more_tags_than_the_table_takes(write_source: Write) -> None:
    decorators = "".join(f"@d{number}\n" for number in range(100))
    assert len(only(write_source("m.py", f"{decorators}def f(): pass"))["tags"]) == 64


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
def test_complexity_is_kept_raw_and_scored_from_1_to_10(write_source: Write, body: str, raw: int) -> None:
    pattern = only(write_source("m.py", f"def f(x, y, z):\n{textwrap.indent(body, '    ')}\n"))
    assert pattern["context"]["complexity"] == raw
    assert pattern["complexity_score"] == min(raw, 10)


def test_a_class_is_as_complex_as_its_most_complex_method(write_source: Write) -> None:
    source = """\
        class A:
            if True:
                def f(self): pass
                def g(self, x):
                    if x: pass
                    if x: pass
        class Empty: pass
    """
    patterns = named(write_source("m.py", source))
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
    write_source: Write, docstring: str, description: str | None, example: str | None
) -> None:
    pattern = only(write_source("m.py", f"def f():\n    {docstring}\n"))
    assert (pattern["description"], pattern["example_usage"]) == (description, example)
