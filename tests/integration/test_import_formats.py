"""Every format and every compression, read and stored, and what is said of a file that is none."""

import gzip
import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.fix_imports import (
    COMPRESS,
    FULL_ROW,
    Importing,
    make_plan,
    patterns,
    stored_rows,
    with_defaults,
    write_lines,
)
from tests.fix_storage import Connection, make_pattern


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".zst"])
async def test_json_lines(importing: Importing, connection: Connection, tmp_path: Path, suffix: str) -> None:
    plain = make_pattern(pattern_name="plain")
    text = "\ufeff" + json.dumps(plain) + "\n\n" + json.dumps(FULL_ROW, ensure_ascii=False)
    path = tmp_path / f"rows #1?.jsonl{suffix}"
    path.write_bytes(COMPRESS[suffix[1:]](text.encode()) if suffix else text.encode())
    result = await importing(make_plan(path))
    assert result.success, result.error
    assert (result.data["rows_read"], result.data["rows_inserted"]) == (2, 2)
    assert result.data["bytes"] == path.stat().st_size
    assert await stored_rows(connection) == [with_defaults(plain), with_defaults(FULL_ROW)]


async def test_python(importing: Importing, connection: Connection, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("def one():\n    '''First.'''\n\nclass Two:\n    def three(self): ...\n")
    first = await importing(make_plan(package, format="python", on_conflict="update"))
    assert first.success, first.error
    names = [row["pattern_name"] for row in await stored_rows(connection)]
    assert names == ["package.Two", "package.Two.three", "package.one"]
    # A tree that has not changed is skipped, and one that has is not.
    assert (await importing(make_plan(package, format="python", on_conflict="update"))).data["state"] == "unchanged"
    (package / "more.py").write_text("def four(): ...\n")
    again = await importing(make_plan(package, format="python", on_conflict="update"))
    assert (again.data["rows_inserted"], again.data["rows_skipped"]) == (1, 3)


async def test_constants_of_json_lines(importing: Importing, connection: Connection, tmp_path: Path) -> None:
    path = tmp_path / "short.jsonl"
    path.write_text(
        '{"pattern_name": "a", "template_code": "x"}\n{"pattern_name": "b", "template_code": "y", "language": "c"}\n[1]'
    )
    plan = make_plan(path, constants={"pattern_type": "snippet", "language": "go"}, max_bad_rows=1)
    result = await importing(plan)
    assert result.success, result.error
    assert [row["language"] for row in await stored_rows(connection)] == ["go", "c"]


RUBBISH = bytes(range(256)) * 40


#: Files by name and content, with the error type and what the error says.
BROKEN = [
    ("a.jsonl", RUBBISH, "bad_rows", "line 1: "),
    ("a.jsonl", b"x" * (16 * 1024 * 1024 + 1), "source_unreadable", "line 1 is longer than 16,777,216 bytes"),
    ("a.jsonl", b"\xff\xfe\n", "source_unreadable", "it is UTF-16; save it as UTF-8"),
    ("a.csv", "a,b\n".encode("utf-16"), "source_unreadable", "it is UTF-16; save it as UTF-8"),
    ("a.jsonl", gzip.compress(b"{}", mtime=0), "source_unreadable", "its name should end with .gz"),
    ("a.csv", COMPRESS["zst"](b"a"), "source_unreadable", "its name should end with .zst"),
    ("a.jsonl", b'{"pattern_name": ', "bad_rows", "line 1: not JSON at column 17: it ends within a value"),
    ("a.jsonl", b"7\n", "bad_rows", "line 1: "),
    ("a.csv", RUBBISH, "source_unreadable", "cannot be read to its end: line 1: "),
    ("a.csv", b"", "source_unreadable", "has no header line"),
    ("a.csv", b'pattern_name\n"never closed', "source_unreadable", "unexpected end of data"),
    ("a.parquet", RUBBISH, "source_unreadable", "cannot be read to its end: "),
    ("a.parquet", b"", "source_unreadable", "cannot be read to its end: "),
    ("a.jsonl.gz", RUBBISH, "source_unreadable", "is not whole, or no .gz file"),
    ("a.jsonl.bz2", RUBBISH, "source_unreadable", "is not whole, or no .bz2 file"),
    ("a.jsonl.zst", RUBBISH, "source_unreadable", "is not whole, or no .zst file"),
    ("a.parquet.gz", RUBBISH, "source_unreadable", "is not whole, or no .gz file"),
]


async def test_rubbish(importing: Importing, connection: Connection, tmp_path: Path) -> None:
    for name, content, error_type, says in BROKEN:
        path = tmp_path / name
        path.write_bytes(content)
        result = await importing(make_plan(path))
        assert (name, result.success, result.metadata["error_type"]) == (name, False, error_type)
        assert says in str(result.error)
    assert await stored_rows(connection) == []


@pytest.mark.parametrize("suffix", COMPRESS)
async def test_a_compressed_file_that_was_cut_off(
    importing: Importing, connection: Connection, tmp_path: Path, suffix: str
) -> None:
    lines = write_lines(tmp_path / "rows.jsonl", patterns(2_000, description=str(uuid4())))
    path = tmp_path / f"cut.jsonl.{suffix}"
    path.write_bytes(COMPRESS[suffix](lines.read_bytes())[:-20])
    result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "source_unreadable"
    assert await stored_rows(connection) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('[{"pattern_name": "a"}]', "a JSON array"),
        ('\n[\n  {"pattern_name": "a"},\n  {}\n]\n', "a JSON array"),
        ('{\n  "pattern_name": "a"\n}\n', "JSON of several lines"),
        ("\ufeff{\r\n}\r\n", "JSON of several lines"),
    ],
)
async def test_json_that_is_not_json_lines(importing: Importing, tmp_path: Path, text: str, kind: str) -> None:
    """One sentence, where it was one error for each line."""
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    result = await importing(make_plan(path, max_bad_rows=10))
    assert result.metadata["error_type"] == "source_unreadable"
    assert f"it is {kind}, and JSON Lines has one object in each line" in str(result.error)


async def test_an_empty_file_of_json_lines_stores_nothing(importing: Importing, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"")
    result = await importing(make_plan(path))
    assert (result.success, result.data["state"], result.data["rows_read"]) == (True, "done", 0)
