"""Imports against a raw COPY of the same rows into the same table, in the same run, and an import's memory.

Rows are harvested from the standard library and multiplied under other names. The COPY is the most that PostgreSQL
can do: its rows are ready and right, and go straight into the table with all its indexes over one connection. The
import is the command `pattern-storage import`, a process of its own: it reads JSON Lines, checks every value, stages
and merges. First into an empty table, then a fifth as many other rows into the table that holds these.

    python -m bench.imports [ROWS] [DATABASE_URL]      1,000,000 rows and an embedded PostgreSQL if left out
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import psycopg

from pattern_storage.embedded import EmbeddedPostgres
from pattern_storage.extract import harvest, standard_library
from pattern_storage.storage import schema
from pattern_storage.storage.copy_rows import HEADER, TRAILER, encode
from pattern_storage.storage.pattern import WRITABLE, Pattern

BLOCK = 1 << 20

#: Runs a program and says how many KiB it had at most. A process of its own, because what its parent had counts too.
MEASURE = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss // (1 if sys.platform == "linux" else 1024), file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass
class Measured:
    """Seconds of one load, CPU seconds of its process (about one is its start) and of PostgreSQL, and most MiB."""

    rows: int
    wall: float
    process: float
    server: float
    peak: float = 0.0

    def show(self, name: str, copied: "Measured | None" = None) -> None:
        """Print a line, with what it comes to beside the COPY."""
        each = 1e6 / self.rows
        print(
            f"{name:<28}{self.wall:7.1f} s {self.rows / self.wall:8,.0f} rows/s",
            f"  CPU a row: {self.process * each:5.1f} us, PostgreSQL {self.server * each:5.1f} us",
            f"  {copied.wall * self.rows / copied.rows / self.wall:.2f} of COPY, {self.peak:,.0f} MiB"
            if copied
            else "",
            flush=True,
        )


def multiplied(rows: int, suffix: str) -> Iterator[dict[str, Any]]:
    """Yield so many patterns, each name once."""
    found = list(harvest(standard_library()))
    for round_, pattern in ((round_, pattern) for round_ in count() for pattern in found):
        if rows == 0:
            return
        rows -= 1
        yield pattern | {"pattern_name": f"{pattern['pattern_name'][:240]}~{round_}{suffix}"}


class Load:
    """Rows, as JSON Lines and as what COPY takes."""

    def __init__(self, folder: Path, rows: int, suffix: str = "") -> None:
        self.rows = rows
        self.lines, self.raw = folder / f"rows{suffix}.jsonl", folder / f"rows{suffix}.copy"
        with self.lines.open("w", encoding="utf-8") as json_lines, self.raw.open("wb") as copy:
            copy.write(HEADER)
            for pattern in multiplied(rows, suffix):
                json_lines.write(json.dumps(pattern, ensure_ascii=False) + "\n")
                copy.write(encode(Pattern.model_validate(pattern).__dict__))
            copy.write(TRAILER)

    def copy(self, url: str) -> Measured:
        """Measure a raw COPY in one transaction."""
        with psycopg.connect(url) as connection, self.raw.open("rb") as stream:
            before, own, started = server_cpu(connection), time.process_time(), time.perf_counter()
            with connection.cursor().copy(
                f"COPY pattern_templates ({', '.join(WRITABLE)}) FROM STDIN (FORMAT binary)"
            ) as copy:
                while block := stream.read(BLOCK):
                    copy.write(block)
            connection.commit()
            wall, own = time.perf_counter() - started, time.process_time() - own
            return Measured(self.rows, wall, own, server_cpu(connection) - before)

    def imported(self, url: str, *options: str) -> Measured:
        """Measure an import: its seconds are its own, without what its process needs to start."""
        command = [sys.executable, "-m", "pattern_storage", "import", str(self.lines), "--json", *options]
        environment = {**os.environ, "DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1"}
        with psycopg.connect(url, autocommit=True) as connection:
            before = server_cpu(connection)
            measured = [sys.executable, "-c", MEASURE, *command]
            done = subprocess.run(measured, env=environment, capture_output=True, text=True, check=True)
            server = server_cpu(connection) - before
        process, peak = done.stderr.split()[-2:]
        seconds = json.loads(done.stdout)["metadata"]["duration_ms"] / 1000
        return Measured(self.rows, seconds, float(process), server, int(peak) / 1024)


def server_cpu(connection: psycopg.Connection) -> float:
    """Return the CPU seconds of all processes of a PostgreSQL on this machine so far, ended ones included; else 0."""
    try:
        postmaster = psutil.Process(connection.info.backend_pid).parent()
    except psutil.Error:
        return 0.0
    if postmaster is None or not postmaster.name().startswith("postgres"):
        return 0.0
    spent = sum(postmaster.cpu_times()[:4])
    for child in postmaster.children():
        with suppress(psutil.Error):
            spent += sum(child.cpu_times()[:2])
    return float(spent)


def measure(url: str, rows: int, folder: Path) -> None:
    """Print all, and what they come to."""
    first, more = Load(folder, rows), Load(folder, max(1, rows // 5), "+")
    print(f"{rows:,} rows, {first.lines.stat().st_size / 1e6:,.0f} MB of JSON Lines", flush=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        copied = first.copy(url)
        copied.show("raw COPY, empty table")
        connection.execute("TRUNCATE pattern_templates")
        connection.execute("CHECKPOINT")
        first.imported(url).show("import, empty table", copied)
        assert connection.execute("SELECT count(*) FROM pattern_templates").fetchone() == (rows,)
        connection.execute("CHECKPOINT")
        imported = more.imported(url)
        assert connection.execute("SELECT count(*) FROM pattern_templates").fetchone() == (rows + more.rows,)
        connection.execute("DELETE FROM pattern_templates WHERE pattern_name LIKE '%+'")
        connection.execute("VACUUM pattern_templates")
        connection.execute("CHECKPOINT")
        copied = more.copy(url)
        copied.show(f"raw COPY, {rows:,} there")
        imported.show(f"import, {rows:,} there", copied)


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
