"""The application's side of one peer: does what it is told in JSON lines on standard input, and answers the same way.

    python driver.py peer_saq PATTERNS.jsonl

A peer's module has `enqueue(pattern)` and `result(job)`, and may have `enqueue_many(patterns)` and `start()`;
each is a function or a coroutine function.
"""

import asyncio
import importlib
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from inspect import isawaitable
from pathlib import Path
from typing import Any

#: Seconds between two sends of a steady flow.
TICK = 0.005


async def settled(value: Any) -> Any:
    """Await what a coroutine function returned; pass on what a function did."""
    return await value if isawaitable(value) else value


class Driver:
    """Enqueues, waits for results and takes the time of both."""

    def __init__(self, peer: Any, patterns: Path) -> None:
        self.peer = peer
        self.patterns = [json.loads(line) for line in patterns.read_text().splitlines()]
        self.jobs: list[Any] = []
        self.made = 0

    def make(self, count: int) -> list[dict[str, Any]]:
        """Return so many patterns under names that nothing else has."""
        numbers = range(self.made, self.made + count)
        self.made += count
        found = [self.patterns[number % len(self.patterns)] for number in numbers]
        return [
            one | {"pattern_name": f"{one['pattern_name'][:200]}~{os.getpid()}-{number}"}
            for one, number in zip(found, numbers, strict=True)
        ]

    async def enqueue(self, count: int, many: bool) -> dict[str, float]:
        """Enqueue one by one, or as many at once as the peer can; say in what time."""
        patterns = self.make(count)
        wall, cpu = time.perf_counter(), time.process_time()
        if many and hasattr(self.peer, "enqueue_many"):
            self.jobs += await settled(self.peer.enqueue_many(patterns))
        else:
            self.jobs += [await settled(self.peer.enqueue(pattern)) for pattern in patterns]
        return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    async def collect(self, sample: int) -> dict[str, int]:
        """Read results of what was enqueued, the last one and others evenly; each must name its row."""
        step = max(1, len(self.jobs) // sample)
        chosen = self.jobs[::-step]
        for job in chosen:
            found = await settled(self.peer.result(job))
            if not found["pattern_id"]:
                raise RuntimeError(f"no pattern_id in {found!r}")
        self.jobs.clear()
        return {"results": len(chosen)}

    async def probe(self, count: int, seconds: float, pause: float) -> dict[str, list[float]]:
        """One job at a time, enqueue to result, up to so many or so long; pauses differ so that no poll keeps step."""
        taken = []
        deadline = time.perf_counter() + seconds
        for pattern in self.make(count):
            begun = time.perf_counter()
            job = await settled(self.peer.enqueue(pattern))
            await settled(self.peer.result(job))
            taken.append(time.perf_counter() - begun)
            if time.perf_counter() > deadline:
                break
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        return {"seconds": taken}

    async def flow(self, rate: float, seconds: float) -> dict[str, float]:
        """Enqueue at a steady rate and wait for nothing; say how many were sent."""
        patterns = self.make(int(rate * seconds) + 1)
        sent, begun = 0, time.perf_counter()
        while (passed := time.perf_counter() - begun) < seconds:
            due = patterns[sent : int(rate * passed)]
            if len(due) > 1 and hasattr(self.peer, "enqueue_many"):
                await settled(self.peer.enqueue_many(due))
            else:
                for pattern in due:
                    await settled(self.peer.enqueue(pattern))
            sent += len(due)
            await asyncio.sleep(TICK)
        return {"sent": sent, "seconds": time.perf_counter() - begun}


async def main(name: str, patterns: Path, answer: Callable[[Any], None]) -> None:
    """Obey until standard input ends."""
    peer = importlib.import_module(name)
    if hasattr(peer, "start"):
        try:
            await settled(peer.start())
        except Exception:
            traceback.print_exc()
            # A pool that goes on connecting would not let the event loop end.
            os._exit(1)
    driver = Driver(peer, patterns)
    answer({"ready": name})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        answer(await getattr(driver, order.pop("do"))(**order))


if __name__ == "__main__":
    # What a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), lambda value: print(json.dumps(value), file=answers)))
