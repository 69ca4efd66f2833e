"""Threads of a soak: each repeats a step of its own until it is told to stop."""

import random
import threading
import traceback
from collections.abc import Callable, Sequence

from tests.fix_process import DEADLINE


class SoakThreads:
    """A thread for each step, with draws of its own.

    Args:
        steps: what to repeat.
        chance: where all draws come from.
        expected: errors that end a step and do not matter.
    """

    def __init__(
        self,
        steps: Sequence[Callable[[random.Random], None]],
        chance: random.Random,
        expected: tuple[type[Exception], ...],
    ) -> None:
        #: Tracebacks of all other errors.
        self.surprises: list[str] = []
        self._expected = expected
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(step, random.Random(chance.random()))) for step in steps
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE)
            assert not thread.is_alive(), "a client hangs"

    def _repeat(self, step: Callable[[random.Random], None], chance: random.Random) -> None:
        while not self._over.wait(chance.uniform(0.02, 0.3)):
            try:
                step(chance)
            except self._expected:
                pass
            except Exception:
                self.surprises.append(traceback.format_exc())
