"""Imports: files to import, and runs in this process."""

import asyncio
import bz2
import gzip
import json
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from pattern_storage.config.settings import Settings
from pattern_storage.storage import ModelResult, import_runs
from pattern_storage.storage.pattern import WRITABLE
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.imports.plan.model import ImportPlan
from pattern_storage.tasks.imports.publisher import publish_runs
from pattern_storage.tasks.imports.run.execution import RunExecutor
from pattern_storage.tasks.imports.sources.files import Source
from pattern_storage.tasks.sender import create_app
from tests.fix_storage import Connection, Pool, make_pattern

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstd.compress}


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write JSON Lines."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def patterns(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return the data of so many patterns with names nobody else has."""
    return [make_pattern(**changes) for _ in range(count)]


def make_plan(source: Path | str, **changes: Any) -> ImportPlan:
    """Return a plan of the import `nightly`."""
    return ImportPlan.model_validate({"name": "nightly", "source": str(source)} | changes)


Importing = Callable[..., Coroutine[Any, Any, ModelResult]]


@pytest.fixture
def importing(pool: Pool, tmp_path: Path) -> Importing:
    """Do a run in this process: `await importing(plan)`; with `run_id` one that is known, again."""

    async def start(plan: ImportPlan, run_id: UUID | None = None, **options: Any) -> ModelResult:
        chosen = run_id or uuid4()
        if not options.get("dry_run"):
            async with pool.connection() as connection:
                await import_runs.add(connection, chosen, plan.name, None, plan.content)
        return await RunExecutor(pool, plan, chosen, rejects=tmp_path / "rejects", seconds=60, **options).execute()

    return start


def queue_run(
    database_url: str, redis_url: str, plan: ImportPlan, *, due: datetime | None = None, **options: Any
) -> UUID:
    """Note a run and put it on the queue, as `pattern-storage imports run` does; return its id."""
    run_id = uuid4()
    settings = Settings(database_url=database_url, redis_url=redis_url)
    question = Database(settings).run(
        lambda connection: import_runs.add(connection, run_id, plan.name, due, plan.content, **options)
    )
    run_sync(question)
    app = create_app(settings)
    publish_runs(app, [(run_id, plan.name, None)])
    app.close()
    return run_id


def runs_of(database_url: str) -> list[dict[str, Any]]:
    """Return all runs in the order in which they were queued."""
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM import_runs ORDER BY queued_at").fetchall()


#: An imports file: one that is due by night, one with a secret in its source, and one that is off.
IMPORTS_FILE = """
[[import]]
name = "nightly"
source = "drop/*.jsonl"
schedule = "30 2 * * *"
timezone = "Europe/Berlin"
on_conflict = "update"

[[import]]
name = "quarterly"
source = "https://host/a.csv?token=secret"
every = "15m"

[[import]]
name = "off"
source = "off.csv"
every = "1h"
enabled = false
"""


def write_imports_file(folder: Path) -> Path:
    """Write the imports file and what it names."""
    (folder / "drop").mkdir()
    write_lines(folder / "drop" / "a.jsonl", patterns(3))
    path = folder / "imports.toml"
    path.write_text(IMPORTS_FILE)
    return path


async def stored_names(connection: Connection) -> list[str]:
    """Return the names of all patterns in the order in which they were stored."""
    cursor = await connection.execute("SELECT pattern_name FROM pattern_templates ORDER BY created_at, pattern_name")
    return [row["pattern_name"] for row in await cursor.fetchall()]


async def newest_run(connection: Connection) -> DictRow:
    cursor = await connection.execute("SELECT * FROM import_runs ORDER BY queued_at DESC LIMIT 1")
    row = await cursor.fetchone()
    assert row
    return row


def read_json_lines(path: Path) -> list[Any]:
    """Return the documents of a file, one a line or one alone."""
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if text.count("\n}") == 0 else [json.loads(text)]


class Gate:
    """Holds runs up where they call a method of their source: in their transaction, when all rows are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str = "check_unchanged") -> None:
        self.reached, self.open = threading.Semaphore(0), threading.Event()
        original = getattr(Source, method)

        def held_up(source: Source) -> Any:
            self.reached.release()
            assert self.open.wait(60)
            return original(source)

        monkeypatch.setattr(Source, method, held_up)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.acquire, timeout=60)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Holds each run up when it has read all rows, until `gate.open.set()`."""
    made = Gate(monkeypatch)
    yield made
    made.open.set()


#: Texts that COPY and CSV have to escape, and a value for every column.
FULL_ROW: dict[str, Any] = {
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


async def stored_rows(connection: Connection) -> list[DictRow]:
    """Return all patterns, the columns that can be written, by name."""
    columns = ", ".join(WRITABLE)
    cursor = await connection.execute(f"SELECT {columns} FROM pattern_templates ORDER BY pattern_name")
    return await cursor.fetchall()


def with_defaults(pattern: dict[str, Any]) -> dict[str, Any]:
    """Return all columns that can be written, with the defaults of those that a pattern does not name."""
    nothing = dict.fromkeys(WRITABLE)
    defaults = {"confidence_score": 0.5, "usage_count": 0, "success_rate": 0.5, "is_deprecated": False}
    return nothing | defaults | {"created_by": "system", "tags": [], "context": {}} | pattern
