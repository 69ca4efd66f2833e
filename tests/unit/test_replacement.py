"""The look at pool processes that are to be replaced: often where processes end by themselves, else not at all."""

from types import SimpleNamespace
from typing import Any

import pytest

from pattern_storage import app
from pattern_storage.tasks.worker.replacement import CHECK_INTERVAL, Replacement


@pytest.mark.parametrize(
    ("limits", "looks"),
    [({"max_tasks_per_child": 1}, True), ({"max_memory_per_child": 1_000}, True), ({}, False)],
)
def test_it_looks_where_processes_end(limits: dict[str, int], looks: bool) -> None:
    calls: list[tuple[float, Any]] = []
    pool = SimpleNamespace(_pool=SimpleNamespace(maintain_pool=lambda: None))
    worker = SimpleNamespace(**{"max_tasks_per_child": None, "max_memory_per_child": None} | limits, pool=pool)
    hub = SimpleNamespace(call_repeatedly=lambda interval, call: calls.append((interval, call)))
    Replacement.__new__(Replacement).register_with_event_loop(worker, hub)
    assert calls == ([(CHECK_INTERVAL, pool._pool.maintain_pool)] if looks else [])
    assert f"{Replacement.__module__}:Replacement" in app.steps["worker"]
