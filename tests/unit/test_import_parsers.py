"""Parsers of imports: files that need no database to be read."""

from pathlib import Path

import pyarrow
import pyarrow.parquet

from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.formats import read_rows
from pattern_storage.tasks.imports.sources.parquet import BATCH_BYTES, batch_rows


def test_an_empty_file_with_a_byte_order_mark_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf")
    plan = ImportPlan.model_validate({"name": "a", "source": str(path)})
    source = Source(plan)
    assert list(read_rows(plan, source, source.files[0])) == []


def test_wide_rows_are_read_in_small_batches_also_of_a_column_with_a_dot_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = "x" * (BATCH_BYTES // 4)
    columns = {"a.code": [f"{number}{text}" for number in range(8)], "a": ["y"] * 8}
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="none")
    group = pyarrow.parquet.ParquetFile(path).metadata.row_group(0)
    assert batch_rows(group, ["a.code"]) < 4
    assert batch_rows(group, ["a.cod"]) == 32
