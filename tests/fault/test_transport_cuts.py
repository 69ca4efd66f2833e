"""Kill a consumer, or cut its connection, around every single command: each message stays in exactly one place."""

import os
import random
import signal
import time
from typing import Any

import pytest
import redis

from tests.fix_process import wait_until
from tests.fix_reader import STOCK, Reader, publish, where
from tests.fix_redis_fault import Case, Forge, read_report


@pytest.mark.parametrize("fault", ["kill", "cut"])
@pytest.mark.parametrize(
    ("loop", "ahead"), [(False, False), (True, False), (True, True)], ids=["without loop", "loop", "loop ahead"]
)
def test_each_command_may_be_the_last(
    forge: Forge, store: redis.Redis, redis_url: str, loop: bool, ahead: bool, fault: str
) -> None:
    publish(redis_url, "whole", range(2))
    whole = forge.case("whole", loop=loop, ahead=ahead)
    assert forge.run(whole) == 0
    assert sorted(read_report(whole)["acked"]) == [0, 1, 2]
    [commands] = read_report(whole)["commands"]
    assert commands > 10
    to_come: set[tuple[str, int]] = set()
    claimed: set[tuple[str, int]] = set()
    queues = []
    # Killed before a command is as good as killed after the one before it.
    for when in ("after",) if fault == "kill" else ("before", "after"):
        for at in range(1, commands + 1):
            queue = f"{when}-{at}"
            queues.append(queue)
            publish(redis_url, queue, range(2))
            case = forge.case(queue, loop=loop, ahead=ahead, fault=fault, when=when, at=at)
            assert forge.run(case) in ((0, 9) if fault == "kill" else (0,)), queue
            report, places = read_report(case), where(store, queue)
            kept = [number for place in places.values() for number in place]
            assert len(kept) == len(set(kept)), (queue, places)
            everything = set(range(3 if report["published"] else 2))
            assert everything <= set(kept) | set(report["delivered"]), (queue, places, report)
            # What has been acknowledged is gone; only collected acknowledgements may be lost.
            assert ahead or not set(report["acked"]) & set(kept), (queue, places, report)
            to_come |= {(queue, number) for number in kept}
            claimed |= {(queue, number) for number in places["claimed"]}

    def take(message: Any) -> None:
        seen.add((message.delivery_info["routing_key"], message.payload))
        message.ack()

    seen: set[tuple[str, int]] = set()
    if fault == "cut":
        # kombu's own sweep restores what ours has recorded.
        reader = Reader(redis_url, queues, take, transport=STOCK)
        reader.consumer.consume()
        reader.steps(lambda: seen >= to_come - claimed, "restored by kombu")
        reader.close()
    reader = Reader(redis_url, queues, take, priority_steps=[0, 9])
    reader.consumer.consume()
    reader.steps(lambda: seen >= to_come, "restored by ours")
    reader.close()
    assert not any(number for queue in queues for number in where(store, queue).values())


@pytest.mark.parametrize("ahead", [False, True], ids=["one by one", "ahead"])
def test_kills_under_load_lose_nothing(forge: Forge, store: redis.Redis, redis_url: str, ahead: bool) -> None:
    jobs, kills = 4_000, 24
    publish(redis_url, "load", range(jobs))
    chance = random.Random(7)
    cases, killed = [], 0
    while killed < kills:
        # Two at a time, so that they meet.
        pair = [forge.case("load", loop=True, ahead=ahead, endless=True) for _ in range(2)]
        pids = [forge.start(case) for case in pair]

        def begun(pair: list[Case] = pair) -> bool:
            return all(read_report(one)["delivered"] for one in pair) or not store.llen("load")

        wait_until(begun, "both have begun")
        for pid in pids:
            time.sleep(chance.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
            assert forge.wait(pid) == -signal.SIGKILL
            killed += 1
        cases += pair
        if not store.llen("load"):
            publish(redis_url, "load", range(jobs, jobs + 500))
            jobs += 500
    assert killed == kills
    seen = {number for case in cases for number in read_report(case)["delivered"]}
    last = forge.case("load", loop=True, ahead=True, endless=True)
    pid = forge.start(last)
    wait_until(lambda: seen | set(read_report(last)["delivered"]) >= set(range(jobs)), "everything was seen")
    os.kill(pid, signal.SIGKILL)
    forge.wait(pid)
