"""What the transport does while nothing happens, and how fast it notices that something does."""

import time
from itertools import product
from typing import Any

import pytest

from tests.fix_process import wait_until
from tests.fix_reader import Open, acknowledged, publish, waiting
from tests.fix_servers import Store

QUEUES = ["a", "b", "c"]


def calls(store: Store, command: str) -> int:
    found: dict[str, Any] = store.info("commandstats")
    return int(found.get(f"cmdstat_{command}", {}).get("calls", 0))


@pytest.mark.parametrize("ahead", [False, True])
def test_an_idle_worker_waits_and_does_not_spin(store: Store, read: Open, ahead: bool) -> None:
    steps = 0
    reader = read(QUEUES, print, loop=True, claim_ahead=ahead, unacked_restore_interval=10)
    for _ in range(5):
        reader.step()
    store.config_resetstat()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        reader.step(timeout=1)
        steps += 1
    assert calls(store, "blmove") <= 3 * len(QUEUES)
    assert calls(store, "evalsha") <= 2
    assert calls(store, "exists") <= 2
    assert steps < 6 * len(QUEUES)


def test_a_full_worker_asks_nothing(store: Store, redis_url: str, read: Open) -> None:
    publish(redis_url, "a", range(10))
    got: list[Any] = []
    reader = read(QUEUES, got.append, loop=True, claim_ahead=True, prefetch=3, unacked_restore_interval=10)
    reader.steps(lambda: len(got) == 3)
    for _ in range(3):
        reader.step()
    store.config_resetstat()
    for _ in range(20):
        reader.step(timeout=0.02)
    assert calls(store, "blmove") == calls(store, "evalsha") == 0


@pytest.mark.parametrize("loop", [False, True], ids=["without loop", "loop"])
def test_no_queue_adds_to_the_delay_of_another(redis_url: str, read: Open, loop: bool) -> None:
    got: list[Any] = []
    reader = read(QUEUES, acknowledged(got), loop=loop)
    # Longer than the reader has: a queue that is looked at only after the wait for another never gets its turn.
    reader.channel.brpop_timeout = 600
    reader.channel.queue_prefetch = {QUEUES[1]: 100}
    for number, (queue, priority) in enumerate(product(QUEUES * 3, (0, 9))):
        for _ in range(2):
            reader.step(timeout=0.01)
        publish(redis_url, queue, [number], priority=priority)
        reader.steps(lambda number=number: got[-1:] == [number])  # type: ignore[misc]
    assert got == list(range(18))


def test_one_message_wakes_one_worker(store: Store, redis_url: str, read: Open) -> None:
    readers = [read(["q"], print, unacked_restore_interval=10) for _ in range(4)]
    claims = [reader.channel.claims for reader in readers]
    for one, reader in zip(claims, readers, strict=True):
        # No wait ends by itself while this test looks.
        reader.channel.brpop_timeout = 600
        # Let it wait without its being told to stop at the end of a step: a worker's event loop does not stop.
        one.work()
        one._finish_claim()
        one.work()
    # The other priorities are watched.
    assert waiting(store) == 4
    publish(redis_url, "q", [1])
    wait_until(lambda: waiting(store) == 4 - 1, "one of them has been woken")
    pops = [each for one in claims for each in one.connections if each.name == "BLMOVE q"]
    assert sum(each.pending and each.connection.can_read(timeout=0) for each in pops) == 1


def test_a_watch_survives_the_end_of_its_connection(store: Store, redis_url: str, read: Open) -> None:
    got: list[Any] = []
    reader = read(["a"], acknowledged(got), loop=True, unacked_restore_interval=600)
    for number in range(3):
        for _ in range(4):
            reader.step()
        [watch] = [one for one in store.client_list() if one["cmd"] == "exists" and "t" in one["flags"]]
        store.client_kill_filter(_id=watch["id"])
        publish(redis_url, "a", [number], priority=9)
        reader.steps(lambda number=number: got[-1:] == [number])  # type: ignore[misc]


def test_a_watch_of_what_came_meanwhile(redis_url: str, read: Open) -> None:
    """A message comes between the claim that found none and the question, or beside another's."""
    got: list[Any] = []
    reader = read(["a"], acknowledged(got), loop=True)
    reader.step()
    claims = reader.channel.claims
    for number, priorities in enumerate(((9,), (3, 6), (9, 3, 6))):
        claims._watch._socket = None
        claims.queues_are_empty = True
        for priority in priorities:
            publish(redis_url, "a", [number], priority=priority)
        expected = [number] * len(priorities)
        reader.steps(lambda expected=expected: got[-len(expected) :] == expected)  # type: ignore[misc]
