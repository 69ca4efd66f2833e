"""An import against a raw COPY of the same rows into the same table, in the same run, and the import's memory.

Rows are harvested from the standard library and multiplied under other names. The COPY is the most that PostgreSQL
can do: its rows are ready and right, and go straight into the table with all its indexes over one connection. The
import is the command `pattern-storage import`, a process of its own: it reads JSON Lines, checks every value, stages
and merges.

    python -m bench.imports [ROWS] [DATABASE_URL]      1,000,000 rows and an embedded PostgreSQL if left out
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.extract import harvest, standard_library
from pattern_storage.storage import schema
from pattern_storage.storage.pattern import WRITABLE, PatternData
from pattern_storage.storage.staging import encode

BLOCK = 1 << 20

#: Runs a program and says how many KiB it had at most. A process of its own, because what its parent had counts too.
MEASURE = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss // (1 if sys.platform == "linux" else 1024), file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def multiplied(rows: int) -> Iterator[dict[str, Any]]:
    """Yield so many patterns, each name once."""
    found = list(harvest(standard_library()))
    for round_, pattern in ((round_, pattern) for round_ in count() for pattern in found):
        if rows == 0:
            return
        rows -= 1
        yield pattern | {"pattern_name": f"{pattern['pattern_name'][:240]}~{round_}"}


def write(rows: int, lines: Path, raw: Path) -> None:
    """Write the rows as JSON Lines and as what COPY takes."""
    with lines.open("w", encoding="utf-8") as json_lines, raw.open("w", encoding="utf-8") as copy:
        for pattern in multiplied(rows):
            json_lines.write(json.dumps(pattern, ensure_ascii=False) + "\n")
            copy.write(encode(PatternData.model_validate(pattern).__dict__))


def copy_raw(url: str, raw: Path) -> float:
    """Return the seconds of a raw COPY in one transaction."""
    with psycopg.connect(url) as connection, raw.open("rb") as stream:
        started = time.perf_counter()
        with connection.cursor().copy(f"COPY pattern_templates ({', '.join(WRITABLE)}) FROM STDIN") as copy:
            while block := stream.read(BLOCK):
                copy.write(block)
        connection.commit()
        return time.perf_counter() - started


def import_file(url: str, lines: Path) -> tuple[float, float, float]:
    """Return the seconds of an import and of its process, and the most MiB that it had."""
    command = [sys.executable, "-m", "pattern_storage", "import", str(lines), "--json"]
    environment = {**os.environ, "DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1"}
    started = time.perf_counter()
    measured = [sys.executable, "-c", MEASURE, *command]
    done = subprocess.run(measured, env=environment, capture_output=True, text=True, check=True)
    peak = int(done.stderr.split()[-1]) / 1024
    return json.loads(done.stdout)["metadata"]["duration_ms"] / 1000, time.perf_counter() - started, peak


def measure(url: str, rows: int, folder: Path) -> None:
    """Print both, and what they come to."""
    lines, raw = folder / "rows.jsonl", folder / "rows.copy"
    write(rows, lines, raw)
    print(f"{rows:,} rows, {lines.stat().st_size / 1e6:,.0f} MB of JSON Lines")
    with psycopg.connect(url, autocommit=True) as connection:
        copied = copy_raw(url, raw)
        print(f"raw COPY    {copied:8.1f} s  {rows / copied:8,.0f} rows/s")
        connection.execute("TRUNCATE pattern_templates")
        connection.execute("CHECKPOINT")
        imported, whole, peak = import_file(url, lines)
        print(f"import      {imported:8.1f} s  {rows / imported:8,.0f} rows/s  {copied / imported:.2f} of COPY")
        print(f"its process {whole:8.1f} s  {peak:8,.0f} MiB at most")
        assert connection.execute("SELECT count(*) FROM pattern_templates").fetchone() == (rows,)


def main() -> None:
    """Run against the given URL, or against a server of our own."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if len(sys.argv) > 2:
            schema.upgrade(sys.argv[2])
            measure(sys.argv[2], rows, folder)
            return
        with EmbeddedPostgres(folder / "postgres") as server:
            schema.upgrade(server.url)
            measure(server.url, rows, folder)


if __name__ == "__main__":
    main()
