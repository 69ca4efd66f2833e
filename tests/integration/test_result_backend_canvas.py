"""Chords, groups and chains on the workers' result backend, in a worker of this process."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.contrib.testing.worker import start_worker
from celery.exceptions import ChordError

from pattern_storage.tasks.celery_app import BACKENDS
from pattern_storage.tasks.worker.result_backend import StorageRedisBackend
from tests.fix_process import DEADLINE, wait_until


@pytest.fixture
def app(redis_url: str, log_levels_kept: None) -> Iterator[Celery]:
    app = Celery("canvas", broker=redis_url, backend=redis_url, set_as_current=False)
    app.loader.override_backends = BACKENDS
    app.conf.update(task_track_started=True, task_acks_late=True)

    @app.task(name="add", shared=False)
    def add(*numbers: Any) -> Any:
        return sum(numbers)

    @app.task(name="total", shared=False)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="fail", shared=False)
    def fail() -> None:
        raise ValueError("no")

    assert isinstance(app.backend, StorageRedisBackend)
    with start_worker(app, perform_ping_check=False, pool="solo", shutdown_timeout=DEADLINE):
        yield app


def call(app: Celery, name: str, *arguments: Any) -> Any:
    return app.tasks[name].s(*arguments)


def test_canvas(app: Celery) -> None:
    parts = [call(app, "add", number, 1) for number in range(5)]
    assert chord(parts, call(app, "total")).apply_async().get(timeout=DEADLINE) == 15
    assert group(parts).apply_async().get(timeout=DEADLINE) == [1, 2, 3, 4, 5]
    assert chain(call(app, "add", 1, 2), call(app, "add", 3)).apply_async().get(timeout=DEADLINE) == 6
    nested = chord([group(parts), chain(call(app, "add", 1), call(app, "add", 1))], call(app, "total"))
    assert nested.apply_async().get(timeout=DEADLINE) == 17


def test_a_part_that_fails_fails_the_chord(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is no fault of the worker: one line says so."""
    lines: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.getLogger("celery.backends.redis"), "callHandlers", lines.append)
    with pytest.raises((ChordError, ValueError), match="no"):
        chord([call(app, "add", 1), call(app, "fail")], call(app, "total")).apply_async().get(timeout=DEADLINE)
    # The part's failure, which the caller may have been told of, comes before.
    wait_until(lambda: lines, "the chord's failure")
    [line] = lines
    assert "ValueError('no')" in line.getMessage()
    assert line.exc_info is None
