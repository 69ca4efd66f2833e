"""Imports: files to import, and runs in this process."""

import json
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from storage import ModelResult, import_runs
from tasks.imports.plan import ImportPlan
from tasks.imports.run import Run
from tests.fix_storage import Pool, make_pattern


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def patterns(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return the data of so many patterns with names nobody else has."""
    return [make_pattern(**changes) for _ in range(count)]


def make_plan(source: Path | str, **changes: Any) -> ImportPlan:
    """Return a plan of the import `nightly`."""
    return ImportPlan.model_validate({"name": "nightly", "source": str(source)} | changes)


Importing = Callable[..., Awaitable[ModelResult]]


@pytest.fixture
def importing(pool: Pool, tmp_path: Path) -> Importing:
    """Do a run in this process: `await importing(plan)`; with `run_id` one that is known, again."""

    async def start(plan: ImportPlan, run_id: UUID | None = None, **options: Any) -> ModelResult:
        chosen = run_id or uuid4()
        if not options.get("dry_run"):
            async with pool.connection() as connection:
                await import_runs.add(connection, chosen, plan.name, None, plan.content)
        return await Run(pool, plan, chosen, rejects=tmp_path / "rejects", seconds=60, **options).execute()

    return start
