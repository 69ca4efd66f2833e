"""Groups that are written to a busy process: which process that is, and when a process is free."""

from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from pattern_storage.tasks.worker.pool.pool import SHORT, Pool

#: The pipes of two processes.
FIRST, SECOND = 3, 5


def call(
    number: int, pipe: int | None, *, is_group: bool = True, began: float | None = 0.0, waited: float = 0.0
) -> Any:
    """Return a call of the pool, as billiard keeps it, that began so many seconds ago; None for one that has not.

    `waited`: seconds since it was written.
    """
    return SimpleNamespace(
        _job=number,
        is_group=is_group,
        ready=lambda: False,
        _scheduled_for=None if pipe is None else SimpleNamespace(inqW_fd=pipe),
        began=began,
        waited=waited,
    )


def pool(*calls: Any, waiting: int = 0, writing: tuple[int, ...] = ()) -> Pool:
    # Here: parameters of tests are made when tests are collected, long before they run.
    for one in calls:
        one._time_accepted = None if one.began is None else monotonic() - one.began
        one.put_at = monotonic() - one.waited
    made: Any = Pool.__new__(Pool)
    made._all_inqueues, made._active_writes, made._busy_workers = {FIRST, SECOND}, set(writing), {FIRST, SECOND}
    made._mark_worker_as_available = made._busy_workers.discard
    made._cache = {one._job: one for one in calls}
    made.outbound_buffer = [None] * waiting
    found: Pool = made
    return found


@pytest.mark.parametrize(
    ("calls", "pipe"),
    [
        ([call(1, FIRST), call(2, SECOND, began=0.01)], SECOND),
        ([call(1, FIRST, began=0.01), call(2, SECOND)], FIRST),
        ([call(1, FIRST, began=None), call(2, SECOND, is_group=False)], FIRST),
        # One has its next group already.
        ([call(1, FIRST), call(2, SECOND), call(3, FIRST, began=None)], SECOND),
        ([call(1, FIRST, is_group=False), call(2, SECOND, is_group=False)], None),
        # Whoever waits for these may have to wait long.
        ([call(1, FIRST, began=2 * SHORT), call(2, SECOND, is_group=False)], None),
        ([call(1, FIRST, began=2 * SHORT), call(2, SECOND, began=0.01)], SECOND),
        # It waits behind a job that its process has claimed itself.
        ([call(1, FIRST, began=None, waited=2 * SHORT), call(2, SECOND, is_group=False)], None),
        # In no pipe yet, or put back.
        ([call(1, None), call(2, None)], None),
    ],
)
def test_the_process_that_ends_its_only_group_first(calls: list[Any], pipe: int | None) -> None:
    assert pool(*calls)._pipe_ahead() == pipe
    assert pool(*calls).has_room_ahead == (pipe is not None)


def test_a_call_that_waits_goes_first() -> None:
    assert not pool(call(1, FIRST), call(2, None, is_group=False), waiting=1).has_room_ahead


def test_a_pipe_that_is_being_written_to_takes_no_other() -> None:
    assert not pool(call(1, FIRST), call(2, SECOND), writing=(FIRST, SECOND)).has_room_ahead


def test_a_process_with_its_next_group_is_not_free() -> None:
    found = pool(call(1, FIRST), call(2, FIRST, began=None), call(3, SECOND))
    found.on_job_ready(1, None, None, FIRST)
    assert found._busy_workers == {FIRST, SECOND}
    found._cache.pop(1)
    found.on_job_ready(2, None, None, FIRST)
    assert found._busy_workers == {SECOND}


def test_a_process_with_a_long_job_of_its_own_is_not_free() -> None:
    found = pool(call(1, SECOND))
    found._pool = [SimpleNamespace(index=1, inqW_fd=SECOND), SimpleNamespace(index=0, inqW_fd=FIRST)]
    found._busy_workers.discard(FIRST)
    found.mark_claimer(busy=True)
    assert found._busy_workers == {FIRST, SECOND}
    found.mark_claimer(busy=False)
    assert found._busy_workers == {SECOND}


def test_a_process_whose_own_job_ended_has_a_call_that_waited() -> None:
    found = pool(call(1, FIRST, began=None))
    found._pool = [SimpleNamespace(index=0, inqW_fd=FIRST)]
    found.mark_claimer(busy=False)
    assert found._busy_workers == {FIRST, SECOND}
