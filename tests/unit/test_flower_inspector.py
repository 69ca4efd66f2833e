"""Flower's questions to workers: a broker that is away or refuses is told of once, not for each question."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("flower")

from pattern_storage.tasks.flower import worker_inspector
from pattern_storage.tasks.flower.worker_inspector import WorkerInspector, enable_events
from pattern_storage.tasks.reconnect import ReconnectBackoff
from pattern_storage.tasks.redis_errors import ServerRefuses


async def test_eight_questions_of_a_page(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(worker_inspector, "_backoff", ReconnectBackoff("cannot ask workers", "flower"))
    caplog.set_level(logging.INFO)
    refusing, answers = True, {"celery@one": {"total": 1}}

    class Inspect:
        def __getattr__(self, _: str) -> Any:
            def ask(**_: Any) -> Any:
                if refusing:
                    raise ServerRefuses("OOM", "full")
                return answers

            return ask

    loop = SimpleNamespace(
        run_in_executor=asyncio.get_running_loop().run_in_executor,
        add_callback=asyncio.get_running_loop().call_soon_threadsafe,
    )
    control = SimpleNamespace(inspect=lambda **_: Inspect(), enable_events=Inspect().enable_events)
    application: Any = SimpleNamespace(control=control)
    inspector: Any = WorkerInspector(loop, application, 1.0)
    for _ in range(3):
        await inspector.inspect("celery@one")
        await enable_events(SimpleNamespace(io_loop=loop, capp=application))
    assert [record.getMessage() for record in caplog.records] == [
        "flower: cannot ask workers: Redis refuses for now, because it is full: full"
    ]
    refusing = False
    await inspector.inspect("celery@one")
    await asyncio.sleep(0)
    assert set(inspector.inspect_methods) <= set(inspector.workers["celery@one"])
    caplog.clear()
    answers = {}
    await inspector.inspect("celery@one")
    assert not caplog.records, "that no worker runs is shown, and is not an error"
