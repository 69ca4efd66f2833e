"""Progress of imports: what is reported, and that nothing waits for a report."""

import asyncio
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pattern_storage.storage import ledger
from pattern_storage.storage.errors import ServerUnavailable
from pattern_storage.tasks.imports.run import monitor as monitor_module
from pattern_storage.tasks.imports.run.progress import Progress
from tests.fix_imports import Gate, Importing, make_plan, patterns, write_lines
from tests.fix_storage import Pool


async def test_nothing_waits_for_a_report(
    importing: Importing, pool: Pool, tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Telling how far a run is waits as long as Redis is away; what is committed or cancelled does not."""
    monkeypatch.setattr(monitor_module, "INTERVAL", 0.05)
    monkeypatch.setattr(monitor_module, "LAST_REPORT", 0.05)
    telling, redis_is_back = threading.Semaphore(0), threading.Event()

    def report(_: Progress) -> None:
        telling.release()
        assert redis_is_back.wait(60)

    path, run_id = write_lines(tmp_path / "a.jsonl", patterns(3)), uuid4()
    running = asyncio.create_task(importing(make_plan(path), run_id, report=report))
    await gate.wait()
    assert await asyncio.to_thread(telling.acquire, timeout=60)
    async with pool.connection() as other:
        await ledger.cancel(other, run_id)
    assert (await running).metadata["error_type"] == "revoked"

    running = asyncio.create_task(importing(make_plan(path, name="other"), report=report))
    await gate.wait()
    assert await asyncio.to_thread(telling.acquire, timeout=60)
    gate.open.set()
    assert (await running).success
    assert not redis_is_back.is_set()
    redis_is_back.set()


async def test_how_far_it_is(importing: Importing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "INTERVAL", 0.001)
    seen: list[dict[str, Any]] = []

    def report(progress: Progress) -> None:
        seen.append(progress.to_dict())
        raise ServerUnavailable("a report that fails stops nothing")

    path = write_lines(tmp_path / "a.jsonl", patterns(20_000))
    assert (await importing(make_plan(path), report=report)).success
    reading = [about for about in seen if about["current"]]
    assert reading
    assert {about["bytes_total"] for about in reading} == {path.stat().st_size}
    assert [about["current"] for about in seen] == sorted(about["current"] for about in seen)
    assert all(0 <= about["percent"] <= 100 for about in reading)
    assert {"name", "phase", "current", "total", "rate", "percent", "seconds_left"} <= seen[0].keys()
