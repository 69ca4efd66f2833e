"""Imports of Parquet: every type that other programs write, and values that are wrong."""

import gzip
import json
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.fix_imports import FULL_ROW, Importing, make_plan, stored_rows, with_defaults
from tests.fix_storage import Connection, make_pattern


@pytest.mark.parametrize("suffix", ["", ".gz"])
async def test_parquet(importing: Importing, connection: Connection, tmp_path: Path, suffix: str) -> None:
    rows = [make_pattern(pattern_name="plain"), FULL_ROW]
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in FULL_ROW}
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
    assert await stored_rows(connection) == [with_defaults(rows[0]), with_defaults(FULL_ROW)]


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


async def test_parquet_with_structs_and_maps(importing: Importing, connection: Connection, tmp_path: Path) -> None:
    one, two = make_pattern(pattern_name="1"), make_pattern(pattern_name="2")
    plain: dict[str, list[Any]] = {name: [one[name], two[name]] for name in one}
    mapped = pyarrow.array([[("a", "1")], [("b", "2")]], pyarrow.map_(pyarrow.string(), pyarrow.string()))
    for name, context in (("struct", pyarrow.array([{"a": 1}, {"a": None}])), ("map", mapped)):
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table(plain | {"context": context}), path)
        result = await importing(make_plan(path, on_conflict="update"))
        assert result.success, result.error
    assert [row["context"] for row in await stored_rows(connection)] == [{"a": "1"}, {"b": "2"}]


async def test_parquet_types_that_other_programs_write(
    importing: Importing, connection: Connection, tmp_path: Path
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
    one, two = await stored_rows(connection)
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


async def test_an_empty_map_is_an_empty_context(importing: Importing, connection: Connection, tmp_path: Path) -> None:
    columns: dict[str, Any] = {name: [value] for name, value in make_pattern().items()}
    columns["context"] = pyarrow.array([[]], pyarrow.map_(pyarrow.string(), pyarrow.string()))
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    result = await importing(make_plan(path))
    assert result.success, result.error
    assert [row["context"] for row in await stored_rows(connection)] == [{}]


async def test_parquet_without_pyarrow(importing: Importing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = await importing(make_plan(path))
    assert "pip install 'pattern-storage[parquet]'" in str(result.error)
