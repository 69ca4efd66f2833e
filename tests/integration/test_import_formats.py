"""Every format and every compression, read and stored, and what is said of a file that is none."""

import bz2
import csv
import gzip
import json
import sys
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow
import pyarrow.parquet
import pytest
from psycopg import AsyncConnection
from psycopg.rows import DictRow

from pattern_storage.storage.pattern import WRITABLE
from tests.fix_imports import Importing, make_plan, patterns, write_lines
from tests.fix_storage import make_pattern

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstd.compress}

#: Texts that COPY and CSV have to escape, and a value for every column.
FULL: dict[str, Any] = {
    "pattern_name": 'tab\tand "quotes"',
    "pattern_type": "function",
    "language": "python",
    "category": "a\\b",
    "template_code": "def f():\r\n\treturn '\\n', \"\\\\\", 'ü€😀', '\\N'\n\\.\n",
    "description": "two\nlines",
    "example_usage": "f()",
    "source": "\\N",
    "confidence_score": 0.125,
    "usage_count": 7,
    "success_rate": 1.0,
    "complexity_score": 10,
    "maintainability_score": 0.0,
    "performance_score": 0.25,
    "is_deprecated": True,
    "created_by": "importer",
    "tags": ["a,b", 'c"d', "e\\f", "g h", "{", "NULL", "ü"],
    "context": {"deep": [{"x": 'tab\t\\ "q" \n'}], "ü": None, "n": 1.5},
}


async def stored(connection: AsyncConnection[DictRow]) -> list[DictRow]:
    """Return all patterns, the columns that can be written, by name."""
    columns = ", ".join(WRITABLE)
    cursor = await connection.execute(f"SELECT {columns} FROM pattern_templates ORDER BY pattern_name")
    return await cursor.fetchall()


def with_defaults(pattern: dict[str, Any]) -> dict[str, Any]:
    nothing = dict.fromkeys(WRITABLE)
    defaults = {"confidence_score": 0.5, "usage_count": 0, "success_rate": 0.5, "is_deprecated": False}
    return nothing | defaults | {"created_by": "system", "tags": [], "context": {}} | pattern


def write_csv(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(names)
        for row in rows:
            values = [row.get(name, "") for name in names]
            writer.writerow([json.dumps(value) if isinstance(value, list | dict) else value for value in values])
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".zst"])
async def test_json_lines(
    importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path, suffix: str
) -> None:
    plain = make_pattern(pattern_name="plain")
    text = "\ufeff" + json.dumps(plain) + "\n\n" + json.dumps(FULL, ensure_ascii=False)
    path = tmp_path / f"rows #1?.jsonl{suffix}"
    path.write_bytes(COMPRESS[suffix[1:]](text.encode()) if suffix else text.encode())
    result = await importing(make_plan(path))
    assert result.success, result.error
    assert (result.data["rows_read"], result.data["rows_inserted"]) == (2, 2)
    assert result.data["bytes"] == path.stat().st_size
    assert await stored(connection) == [with_defaults(plain), with_defaults(FULL)]


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".zst"])
async def test_csv(importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path, suffix: str) -> None:
    plain = make_pattern(pattern_name="plain")
    path = write_csv(tmp_path / "rows.csv", [plain, FULL])
    if suffix:
        packed = path.with_name(path.name + suffix)
        packed.write_bytes(COMPRESS[suffix[1:]](path.read_bytes()))
        path = packed
    result = await importing(make_plan(path))
    assert result.success, result.error
    assert await stored(connection) == [with_defaults(plain), with_defaults(FULL)]


@pytest.mark.parametrize("suffix", ["", ".gz"])
async def test_parquet(importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path, suffix: str) -> None:
    rows = [make_pattern(pattern_name="plain"), FULL]
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in FULL}
    # Tags as Parquet has them; a context as text, because its values have no one type.
    columns["context"] = [json.dumps(row.get("context")) if "context" in row else None for row in rows]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    if suffix:
        packed = path.with_name(path.name + suffix)
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    result = await importing(make_plan(path))
    assert result.success, result.error
    assert await stored(connection) == [with_defaults(rows[0]), with_defaults(FULL)]


async def test_a_local_parquet_file_is_not_copied(
    importing: Importing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_pattern()
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({name: [value] for name, value in one.items()}), path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    result = await importing(make_plan(path))
    assert result.success, result.error
    assert result.data["bytes"] == path.stat().st_size


async def test_parquet_with_structs_and_maps(
    importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path
) -> None:
    one, two = make_pattern(pattern_name="1"), make_pattern(pattern_name="2")
    plain: dict[str, list[Any]] = {name: [one[name], two[name]] for name in one}
    mapped = pyarrow.array([[("a", "1")], [("b", "2")]], pyarrow.map_(pyarrow.string(), pyarrow.string()))
    for name, context in (("struct", pyarrow.array([{"a": 1}, {"a": None}])), ("map", mapped)):
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table(plain | {"context": context}), path)
        result = await importing(make_plan(path, on_conflict="update"))
        assert result.success, result.error
    assert [row["context"] for row in await stored(connection)] == [{"a": "1"}, {"b": "2"}]


async def test_python(importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("def one():\n    '''First.'''\n\nclass Two:\n    def three(self): ...\n")
    first = await importing(make_plan(package, format="python", on_conflict="update"))
    assert first.success, first.error
    names = [row["pattern_name"] for row in await stored(connection)]
    assert names == ["package.Two", "package.Two.three", "package.one"]
    # A tree that has not changed is skipped, and one that has is not.
    assert (await importing(make_plan(package, format="python", on_conflict="update"))).data["state"] == "unchanged"
    (package / "more.py").write_text("def four(): ...\n")
    again = await importing(make_plan(package, format="python", on_conflict="update"))
    assert (again.data["rows_inserted"], again.data["rows_skipped"]) == (1, 3)


async def test_columns_constants_and_separators(
    importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path
) -> None:
    path = tmp_path / "vendor.csv"
    path.write_text("Id;Name;Code;Labels;Extra;Score\n1;alpha;pass;x| y|;a=1|b = two;0,5\n2;beta;pass;;;\n")
    plan = make_plan(
        path,
        delimiter=";",
        separator="|",
        columns={"pattern_name": "Name", "template_code": "Code", "tags": "Labels", "context": "Extra"},
        constants={"pattern_type": "snippet", "language": "go", "confidence_score": 0.75},
    )
    result = await importing(plan)
    assert result.success, result.error
    alpha, beta = await stored(connection)
    assert (alpha["tags"], alpha["context"]) == (["x", "y"], {"a": "1", "b": "two"})
    assert (beta["tags"], beta["context"]) == ([], {})
    assert {row["language"] for row in (alpha, beta)} == {"go"}
    assert alpha["confidence_score"] == 0.75


async def test_constants_of_json_lines(
    importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path
) -> None:
    path = tmp_path / "short.jsonl"
    path.write_text(
        '{"pattern_name": "a", "template_code": "x"}\n{"pattern_name": "b", "template_code": "y", "language": "c"}\n[1]'
    )
    plan = make_plan(path, constants={"pattern_type": "snippet", "language": "go"}, max_bad_rows=1)
    result = await importing(plan)
    assert result.success, result.error
    assert [row["language"] for row in await stored(connection)] == ["go", "c"]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("pattern_name,pattern_type,language,template_code,colour", "unknown column 'colour'"),
        ("pattern_name,pattern_type,language,template_code,template_code", "two columns 'template_code'"),
    ],
)
async def test_columns_that_have_no_meaning(importing: Importing, tmp_path: Path, header: str, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(header + "\n")
    result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "columns_invalid"
    assert says in str(result.error)


async def test_a_mapped_column_that_is_not_there(importing: Importing, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", [make_pattern()])
    result = await importing(make_plan(path, columns={"pattern_name": "patern_name"}))
    assert "has no column 'patern_name'; did you mean 'pattern_name'?" in str(result.error)


BAD_ROWS = [
    ("usage_count", "many", "usage_count should be a whole number, got 'many'"),
    ("is_deprecated", "perhaps", "is_deprecated should be a truth value, got 'perhaps'"),
    ("confidence_score", "1.5", "confidence_score should be less than or equal to 1"),
    ("confidence_score", "nan", "confidence_score should be"),
    ("tags", "a,b", "tags should be JSON, got 'a,b'; or set 'separator'"),
    ("context", "[1]", "context should be a valid dictionary"),
    ("parent_pattern_id", "x", "parent_pattern_id should be a valid UUID"),
]


@pytest.mark.parametrize(("column", "value", "says"), BAD_ROWS)
async def test_csv_values_that_are_wrong(
    importing: Importing, tmp_path: Path, column: str, value: str, says: str
) -> None:
    path = write_csv(tmp_path / "rows.csv", [make_pattern(), make_pattern() | {column: value}])
    result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "bad_rows"
    [bad] = result.metadata["bad_rows"]
    assert says in bad["reason"]
    assert bad["line"] == 5, "a header, and a row of three lines"


async def test_a_csv_row_with_too_few_values(importing: Importing, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", [make_pattern()])
    with path.open("a") as stream:
        stream.write("only,two\n")
    result = await importing(make_plan(path))
    assert "it has 2 values, but the header has 4" in str(result.error)


RUBBISH = bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("name", "content", "error_type", "says"),
    [
        ("a.jsonl", RUBBISH, "bad_rows", "line 1: "),
        ("a.jsonl", b"x" * (16 * 1024 * 1024 + 1), "source_unreadable", "line 1 is longer than 16,777,216 bytes"),
        ("a.jsonl", b"\xff\xfe\n", "source_unreadable", "it is UTF-16; save it as UTF-8"),
        ("a.csv", "a,b\n".encode("utf-16"), "source_unreadable", "it is UTF-16; save it as UTF-8"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "source_unreadable", "its name should end with .gz"),
        ("a.csv", zstd.compress(b"a"), "source_unreadable", "its name should end with .zst"),
        ("a.jsonl", b'{"pattern_name": ', "bad_rows", "line 1: Invalid JSON"),
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
    ],
)
async def test_rubbish(
    importing: Importing,
    connection: AsyncConnection[DictRow],
    tmp_path: Path,
    name: str,
    content: bytes,
    error_type: str,
    says: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    result = await importing(make_plan(path))
    assert not result.success
    assert result.metadata["error_type"] == error_type
    assert says in str(result.error)
    assert await stored(connection) == []


@pytest.mark.parametrize("suffix", COMPRESS)
async def test_a_compressed_file_that_was_cut_off(
    importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path, suffix: str
) -> None:
    lines = write_lines(tmp_path / "rows.jsonl", patterns(2_000, description=str(uuid4())))
    path = tmp_path / f"cut.jsonl.{suffix}"
    path.write_bytes(COMPRESS[suffix](lines.read_bytes())[:-20])
    result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "source_unreadable"
    assert await stored(connection) == []


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


CSV_HEADER = "pattern_name,pattern_type,language,template_code"


async def test_a_bad_byte_spoils_its_row_and_not_the_file(
    importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path
) -> None:
    rows = [f"n{number},code,go,x".encode() for number in range(3_000)]
    rows[1_999] = b"caf\xe9,code,go,x"
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\n".join([CSV_HEADER.encode(), *rows]))
    result = await importing(make_plan(path))
    assert result.metadata["bad_rows"] == [
        {"file": str(path), "line": 2_001, "reason": "pattern_name is not UTF-8: it has the byte 0xe9"}
    ]
    result = await importing(make_plan(path, max_bad_rows=1))
    assert (result.data["rows_inserted"], result.data["rows_rejected"]) == (2_999, 1)


async def test_a_quote_in_the_wrong_place_spoils_its_row(importing: Importing, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f'{CSV_HEADER}\na,code,go,"x"y\nb,code,go,"two\nlines"\nc,code,go,"x" \nd,code,go,x\n')
    result = await importing(make_plan(path, max_bad_rows=2))
    assert (result.data["rows_inserted"], result.data["rows_rejected"]) == (2, 2), result
    result = await importing(make_plan(path, name="strict"))
    assert [bad["line"] for bad in result.metadata["bad_rows"]] == [2, 5]


async def test_columns_that_nobody_asked_for_may_have_one_name(importing: Importing, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{CSV_HEADER},note,note,,\na,code,go,x,1,2,3,4\n")
    names = {name: name for name in CSV_HEADER.split(",")}
    assert (await importing(make_plan(path, columns=names))).success
    result = await importing(make_plan(path, columns=names | {"description": "note"}))
    assert "has two columns 'note'" in str(result.error)


@pytest.mark.parametrize(("sign", "name"), [(";", "';'"), ("\t", "a tab"), ("|", "'|'")])
async def test_another_delimiter_is_recognized(importing: Importing, tmp_path: Path, sign: str, name: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"{CSV_HEADER}\na,code,go,x\n".replace(",", sign))
    result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "columns_invalid"
    assert f"has one column; its values seem to be separated by {name}: set delimiter to {sign!r}" in str(result.error)
    assert (await importing(make_plan(path, delimiter=sign))).success


NUMBERS = [
    ("usage_count", "3.0", 3), ("usage_count", "3.", 3), ("usage_count", "1E+02", 100), ("usage_count", " 7 ", 7),
    ("usage_count", "007", 7), ("confidence_score", "1", 1.0), ("confidence_score", ".5", 0.5),
    ("confidence_score", "5e-1", 0.5), ("is_deprecated", "TRUE", True),
    ("usage_count", "3.5", None), ("usage_count", "1_000", None), ("usage_count", "\uff13", None),
    ("usage_count", "0x10", None), ("usage_count", "1e999", None), ("usage_count", "9" * 5_000, None),
    ("confidence_score", "0_1", None), ("confidence_score", "0,5", None), ("confidence_score", "inf", None),
    ("confidence_score", "\u0661", None), ("is_deprecated", "2", None),
]  # fmt: skip


@pytest.mark.parametrize(("column", "text", "value"), NUMBERS)
async def test_numbers_as_spreadsheets_write_them(
    importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path, column: str, text: str, value: Any
) -> None:
    path = write_csv(tmp_path / "rows.csv", [make_pattern() | {column: text}])
    result = await importing(make_plan(path))
    if value is None:
        [bad] = result.metadata["bad_rows"]
        assert bad["reason"].startswith(f"{column} should be a ")
    else:
        assert result.success, result.error
        assert [row[column] for row in await stored(connection)] == [value]


async def test_parquet_types_that_other_programs_write(
    importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path
) -> None:
    """Columns of pandas, Spark and others: bytes for texts, floats for integers with nulls, nested maps."""
    text_map = pyarrow.map_(pyarrow.string(), pyarrow.binary())
    inner = pyarrow.struct([("labels", text_map), ("when", pyarrow.timestamp("us")), ("n", pyarrow.decimal128(9, 2))])
    table = pyarrow.table(
        {
            "pattern_name": pyarrow.array([b"a", b"b"], pyarrow.binary()),
            "pattern_type": pyarrow.array(["code", "code"]).dictionary_encode(),
            "language": pyarrow.array(["go", "go"], pyarrow.large_string()),
            "template_code": pyarrow.array([b"x", "ü".encode()], pyarrow.large_binary()),
            "usage_count": pyarrow.array([3.0, None]),
            "complexity_score": pyarrow.array([4, 5], pyarrow.int8()),
            "confidence_score": pyarrow.array([Decimal("0.25"), 1], pyarrow.decimal128(5, 2)),
            "success_rate": pyarrow.array([1, 0], pyarrow.uint8()),
            "is_deprecated": pyarrow.array([1, 0], pyarrow.int8()),
            "tags": pyarrow.array([[b"t"], []], pyarrow.list_(pyarrow.binary())),
            "context": pyarrow.array([{"labels": [("k", b"v")], "when": 0, "n": 150}, {"labels": []}], inner),
        }
    )
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(table, path)
    result = await importing(make_plan(path))
    assert result.success, result.error
    one, two = await stored(connection)
    assert (one["usage_count"], one["complexity_score"], one["confidence_score"]) == (3, 4, 0.25)
    assert (one["is_deprecated"], two["is_deprecated"], two["usage_count"]) == (True, False, 0)
    assert (one["tags"], two["template_code"]) == (["t"], "ü")
    assert one["context"] == {"labels": {"k": "v"}, "when": "1970-01-01T00:00:00", "n": 150}
    assert two["context"] == {"labels": {}, "when": None, "n": None}


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("template_code", pyarrow.array([b"\xff"]), "a binary value is not UTF-8 text"),
        ("confidence_score", pyarrow.array([0.5, 1], pyarrow.float64()).cast(pyarrow.decimal128(30, 25)), None),
        ("is_deprecated", pyarrow.array([2], pyarrow.int8()), "is_deprecated should be a valid boolean, got 2"),
        ("usage_count", pyarrow.array([3.5]), "usage_count should be a valid integer"),
        ("usage_count", pyarrow.array([float("nan")]), "usage_count should be a valid integer"),
    ],
)
async def test_parquet_values_that_are_wrong(
    importing: Importing, tmp_path: Path, name: str, values: Any, says: str | None
) -> None:
    rows = len(values)
    columns: dict[str, Any] = {key: [make_pattern()[key] for _ in range(rows)] for key in make_pattern()}
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns | {name: values}), path)
    result = await importing(make_plan(path))
    if says is None:
        assert result.success, result.error
    else:
        assert says in result.metadata["bad_rows"][0]["reason"]


async def test_an_empty_map_is_an_empty_context(
    importing: Importing, connection: AsyncConnection[DictRow], tmp_path: Path
) -> None:
    columns: dict[str, Any] = {name: [value] for name, value in make_pattern().items()}
    columns["context"] = pyarrow.array([[]], pyarrow.map_(pyarrow.string(), pyarrow.string()))
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    result = await importing(make_plan(path))
    assert result.success, result.error
    assert [row["context"] for row in await stored(connection)] == [{}]


async def test_an_empty_file_of_json_lines_stores_nothing(importing: Importing, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"")
    result = await importing(make_plan(path))
    assert (result.success, result.data["state"], result.data["rows_read"]) == (True, "done", 0)


async def test_parquet_without_pyarrow(importing: Importing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = await importing(make_plan(path))
    assert "pip install 'pattern-storage[parquet]'" in str(result.error)
