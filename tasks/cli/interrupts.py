"""A guard against interrupts that Python prints and forgets."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

#: Seconds until a lost interrupt is raised again.
RAISE_AGAIN_AFTER = 0.01


@contextmanager
def keep_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt again where Python has printed and forgotten it.

    A signal may arrive while the callback of a weak reference or a `__del__` runs. Python ignores exceptions of these:
    the program would go on as if it had not been interrupted, until a service manager kills it.
    """
    before = sys.unraisablehook

    def again(lost: "UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            # Not from here: exceptions of this hook are ignored as well.
            signal.setitimer(signal.ITIMER_REAL, RAISE_AGAIN_AFTER)
        else:
            before(lost)

    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
