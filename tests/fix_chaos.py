"""A random sequence of faults, each undone after a while; the seed decides order, pauses and victims."""

import heapq
import itertools
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil
import psycopg
import redis

from tests.fix_process import DEADLINE

#: Undoes a fault; returns False while that is not possible yet.
Repair = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """A thing to do to one of several targets by their names, with its weight among other faults."""

    strike: Callable[[str], Repair | None]
    weight: int
    targets: Sequence[str]


class Chaos:
    """Does faults; one that has a repair takes its target down, and what is down is left alone until then.

    Args:
        chance: where all draws come from.
        faults: to choose from.
        look: is called all the time with the targets that are down.
    """

    def __init__(self, chance: random.Random, faults: Sequence[Fault], look: Callable[[set[str]], None]) -> None:
        self._chance, self._faults, self._look = chance, faults, look
        self._repairs: list[tuple[float, int, str, Repair]] = []
        self._numbers = itertools.count()
        self._down: set[str] = set()
        self.done: list[str] = []

    def run(self, seconds: float) -> None:
        """Do faults for so long, then undo the last of them."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pause = self._strike()
            self._wait_until(min(time.monotonic() + pause, end))
        deadline = time.monotonic() + 5 * DEADLINE
        while self._repairs:
            assert time.monotonic() < deadline, f"these cannot be undone: {self._down}"
            self._wait_until(time.monotonic() + 0.5)

    def _strike(self) -> float:
        """Do one fault, and return the seconds until the next one."""
        # The same draws whatever is down.
        [fault] = self._chance.choices(self._faults, [fault.weight for fault in self._faults])
        target, pause = self._chance.choice(fault.targets), self._chance.uniform(0.05, 1.2)
        length = self._chance.uniform(0, self._chance.choice([1, 6]))
        if target not in self._down:
            self.done.append(f"{fault.strike.__name__} {target}")
            # The target may have been about to end, or be out of reach behind another fault.
            with suppress(psutil.NoSuchProcess, redis.RedisError, psycopg.OperationalError):
                if repair := fault.strike(target):
                    self._down.add(target)
                    self._schedule(length, target, repair)
        return pause

    def _wait_until(self, end: float) -> None:
        while True:
            while self._repairs and self._repairs[0][0] <= time.monotonic():
                *_, target, repair = heapq.heappop(self._repairs)
                if repair() is False:
                    self._schedule(0.5, target, repair)
                else:
                    self._down.discard(target)
            self._look(self._down)
            if time.monotonic() >= end:
                return
            time.sleep(0.05)

    def _schedule(self, seconds: float, target: str, repair: Repair) -> None:
        heapq.heappush(self._repairs, (time.monotonic() + seconds, next(self._numbers), target, repair))
