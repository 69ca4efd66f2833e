"""Imports of CSV and TSV: columns, constants, delimiters, numbers, and rows that are wrong."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fix_imports import COMPRESS, FULL_ROW, Importing, make_plan, stored_rows, with_defaults
from tests.fix_storage import Connection, make_pattern


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
async def test_csv(importing: Importing, connection: Connection, tmp_path: Path, suffix: str) -> None:
    plain = make_pattern(pattern_name="plain")
    path = write_csv(tmp_path / "rows.csv", [plain, FULL_ROW])
    if suffix:
        packed = path.with_name(path.name + suffix)
        packed.write_bytes(COMPRESS[suffix[1:]](path.read_bytes()))
        path = packed
    result = await importing(make_plan(path))
    assert result.success, result.error
    assert await stored_rows(connection) == [with_defaults(plain), with_defaults(FULL_ROW)]


async def test_columns_constants_and_separators(importing: Importing, connection: Connection, tmp_path: Path) -> None:
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
    alpha, beta = await stored_rows(connection)
    assert (alpha["tags"], alpha["context"]) == (["x", "y"], {"a": "1", "b": "two"})
    assert (beta["tags"], beta["context"]) == ([], {})
    assert {row["language"] for row in (alpha, beta)} == {"go"}
    assert alpha["confidence_score"] == 0.75


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("pattern_name,pattern_type,language,template_code,colour", "or as --column COLUMN=NAME"),
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


async def test_csv_values_that_are_wrong(importing: Importing, tmp_path: Path) -> None:
    rows = [make_pattern() | {column: value} for column, value, _ in BAD_ROWS]
    result = await importing(make_plan(write_csv(tmp_path / "rows.csv", [make_pattern(), *rows])))
    assert result.metadata["error_type"] == "bad_rows"
    for bad, (_, _, says) in zip(result.metadata["bad_rows"], BAD_ROWS, strict=True):
        assert says in bad["reason"]
    assert result.metadata["bad_rows"][0]["line"] == 5, "a header, and a row of three lines"


async def test_a_csv_row_with_too_few_values(importing: Importing, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", [make_pattern()])
    with path.open("a") as stream:
        stream.write("only,two\n")
    result = await importing(make_plan(path))
    assert "it has 2 values, but the header has 4" in str(result.error)


CSV_HEADER = "pattern_name,pattern_type,language,template_code"


async def test_a_bad_byte_spoils_its_row_and_not_the_file(importing: Importing, tmp_path: Path) -> None:
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
]  # fmt: skip
NO_NUMBERS = [
    ("usage_count", "3.5"), ("usage_count", "1_000"), ("usage_count", "\uff13"), ("usage_count", "0x10"),
    ("usage_count", "1e999"), ("usage_count", "9" * 5_000), ("confidence_score", "0_1"), ("confidence_score", "0,5"),
    ("confidence_score", "inf"), ("confidence_score", "\u0661"), ("is_deprecated", "2"),
]  # fmt: skip


async def test_numbers_as_spreadsheets_write_them(importing: Importing, connection: Connection, tmp_path: Path) -> None:
    rows = [make_pattern(pattern_name=f"{n:02}") | {column: text} for n, (column, text, _) in enumerate(NUMBERS)]
    result = await importing(make_plan(write_csv(tmp_path / "rows.csv", rows)))
    assert result.success, result.error
    found = await stored_rows(connection)
    assert [(row[column], text) for row, (column, text, _) in zip(found, NUMBERS, strict=True)] == [
        (value, text) for _, text, value in NUMBERS
    ]


async def test_numbers_that_spreadsheets_do_not_write(importing: Importing, tmp_path: Path) -> None:
    rows = [make_pattern() | {column: text} for column, text in NO_NUMBERS]
    result = await importing(make_plan(write_csv(tmp_path / "rows.csv", rows)))
    for bad, (column, _) in zip(result.metadata["bad_rows"], NO_NUMBERS, strict=True):
        assert bad["reason"].startswith(f"{column} should be a ")
