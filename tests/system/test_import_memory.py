"""Imports have as much memory as they are allowed, however large their sources are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.fix_cli import command_line
from tests.fix_imports import Importing, make_plan, write_lines
from tests.fix_process import DEADLINE, run_python
from tests.fix_storage import make_pattern

#: Runs a program and says how many KiB it had at most. A process of its own, because what its parent had counts too.
MEASURE = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss // (1 if sys.platform == "linux" else 1024), file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_memory_does_not_grow_with_the_source(database_url: str, tmp_path: Path) -> None:
    """100 MB of rows, and the process that imports them never has more than it is allowed."""
    text = "x" * 10_000
    write_lines(tmp_path / "a.jsonl", (make_pattern(template_code=text) for _ in range(10_000)))
    command, environment = command_line("import", "a.jsonl", "--json", DATABASE_URL=database_url)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["rows_inserted"] == 10_000
    assert data["bytes"] > 100_000_000
    assert int(done.stderr.split()[-1]) / 1024 < 180


#: Rows of a file, its template codes, and whether the file says each value once.
WIDE = {"plain": lambda: [os.urandom(450_000).hex() for _ in range(200)], "repeated": lambda: ["x" * 900_000] * 2_000}

#: Reads a Parquet file as an import does; prints the MiB that this added to what the process had before.
READ = """
import re, sys
from pathlib import Path
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.imports.sources.formats import read_rows
import pyarrow.parquet
plan = ImportPlan.model_validate({"name": "x", "source": sys.argv[1]})
source = Source(plan)
# Not ru_maxrss: what the parent had counts there.
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
assert sum(1 for _ in read_rows(plan, source, source.files[0])) == int(sys.argv[2])
print((peak() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", WIDE)
def test_wide_rows_of_parquet_do_not_pile_up(tmp_path: Path, kind: str) -> None:
    codes = WIDE[kind]()
    columns: dict[str, Any] = {key: [value] * len(codes) for key, value in make_pattern().items()}
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns | {"template_code": codes}), path, row_group_size=50)
    read = run_python("-c", READ, str(path), str(len(codes)), timeout=DEADLINE)
    assert read.returncode == 0, read.stderr
    assert int(read.stdout) < 150, f"MiB, of {len(codes) * 900_000 >> 20} in the file"


async def test_pages_of_parquet_that_would_fill_the_memory(importing: Importing, tmp_path: Path) -> None:
    codes = WIDE["plain"]()
    columns: dict[str, Any] = {key: [value] * len(codes) for key, value in make_pattern().items()}
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns | {"template_code": codes}), path)
    result = await importing(make_plan(path))
    assert result.metadata["error_type"] == "source_unreadable"
    assert "rows of template_code are so wide that a page of them may have 172 MiB" in str(result.error)
    assert str(result.error).endswith("and at most 64 are read; write smaller row groups")
