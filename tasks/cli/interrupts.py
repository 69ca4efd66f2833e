"""Ctrl-C: a guard against interrupts that Python prints and forgets, and a sentence about what becomes of the work."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pattern_storage.tasks.cli.output import err

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


#: Said of jobs that are sent again, a page at a time; each page is written to the audit.
SENT_AGAIN = (
    "What was sent again until now goes on: 'pattern-storage audit' tells which jobs, 'pattern-storage jobs cancel ID'"
    " cancels one."
)


@contextmanager
def explain_interrupt(sentence: Callable[[], str] = lambda: SENT_AGAIN) -> Iterator[None]:
    """Print on Ctrl-C what becomes of the work: jobs that were sent do not end with the command."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(sentence())
        raise
