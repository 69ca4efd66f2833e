"""Code of a harvested pattern: dedented, with its strings as they were, and of limited size."""

import textwrap
from pathlib import Path

from pattern_storage.extract import MAX_CODE_BYTES
from tests.fix_harvest import Write, named, skipped


def test_dedenting_moves_code_and_docstrings_but_changes_no_other_string(write_source: Write) -> None:
    path = write_source(
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


def test_a_string_continued_by_a_backslash_keeps_its_spaces(write_source: Write) -> None:
    path = write_source("m.py", "class A:\n    def f(self):\n        return 'a\\\n        b'\n")
    assert named(path)["m.A.f"]["template_code"] == "def f(self):\n    return 'a\\\n        b'"


def test_lines_end_where_the_parser_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_bytes(
        "x = '\u2028 \x85 \x0b'\r\n\x0c\r\nclass A:\r\n\x0c    def f(self):\r\n        return 1\r\n".encode()
    )
    assert named(path)["m.A.f"]["template_code"] == "def f(self):\n    return 1"


def test_code_up_to_one_mebibyte_is_taken_and_a_byte_more_is_skipped(write_source: Write) -> None:
    start = "def f(): pass  # é"  # the limit is on bytes: é has two
    path = write_source("fits.py", start + "x" * (MAX_CODE_BYTES - len(start.encode())))
    write_source("large.py", path.read_text() + "x\ndef g(): pass\n")
    names, reasons = skipped(path.parent)
    assert names == ["fits.f", "large.g"]
    assert reasons == {"large.py": "f in line 1 has 1048577 bytes of source, more than the 1048576 of a pattern."}
