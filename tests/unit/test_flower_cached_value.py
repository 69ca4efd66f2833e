"""Cached figures of Flower's pages: an action forgets them, also a computation that began before it."""

import asyncio

import pytest

pytest.importorskip("flower")

from pattern_storage.tasks.flower.cached_value import CachedValue


async def test_a_computation_that_began_before_an_action_is_dropped() -> None:
    facts, computing, may_end = ["before"], asyncio.Event(), asyncio.Event()

    async def compute() -> str:
        fact = facts[-1]
        computing.set()
        await may_end.wait()
        return fact

    value = CachedValue(compute, "facts", seconds=1000)
    assert value.last() is None
    await computing.wait()
    facts.append("after")
    value.invalidate()
    may_end.set()
    await asyncio.sleep(0)
    assert await value.get(patience=30) == "after"
    assert value.last() == "after"


async def test_a_failure_keeps_the_last_value() -> None:
    answers = ["first", None]

    async def compute() -> str:
        if (answer := answers.pop(0)) is None:
            raise ConnectionError("away")
        return answer

    value = CachedValue(compute, "facts", seconds=1000)
    assert await value.get(patience=30) == "first"
    computed_at = value.computed_at
    value._tried_at -= 1001
    assert value.last() == "first"  # and begins the next, which fails
    assert value._task is not None
    await value._task
    assert (value.last(), value.computed_at) == ("first", computed_at)
