"""Messages of pool processes of which the main process has read a half, or none when the worker ends.

When a connection to the broker breaks, Celery's event loop forgets everything that it reads, and then begins anew with
each process. It would take the rest of such a message for the beginning of another: it fails with a UnicodeDecodeError,
or waits for bytes that never come. Celery minds this only when a worker ends (`ResultHandler._finish_partial_read`).
Then it reads for as long as it waits for calls, and a process that claims jobs itself reports them without a call.
"""

from collections.abc import Callable, Generator
from contextlib import suppress
from inspect import GEN_RUNNING, GEN_SUSPENDED, getgeneratorstate, isgenerator
from time import sleep
from typing import Any

from celery.concurrency import asynpool

#: Seconds between two looks whether a process has exited without a last message.
EXIT_POLL = 0.1


class ResultHandler(asynpool.ResultHandler):
    """Celery's handler of what processes report, which goes on with a message in the next event loop."""

    # Celery's, which its type stubs do not know.
    fileno_to_outq: dict[int, Any]
    _hub: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: By file descriptor: the process, and who has read half of its message.
        self._half_read: dict[int, tuple[Any, Generator[Any, Any, Any]]] = {}
        # File descriptor of what is being read just now, but for the rest of a message.
        self._reading = -1

    def _make_process_result(self, hub: Any) -> Callable[[int], None]:
        read = super()._make_process_result(hub)  # type: ignore[misc]

        def on_result_readable(fd: int) -> None:
            self._reading = fd
            try:
                read(fd)
            finally:
                self._reading = -1
            callback, _ = hub.readers.get(fd) or (None, ())
            if isgenerator(callback):
                self._half_read[fd] = self.fileno_to_outq.get(fd), callback
            else:
                self._half_read.pop(fd, None)

        return on_result_readable

    def read(self, process: Any, timeout: float) -> bool:
        """Read one message of a process, in whole; return whether one came in so many seconds.

        None is read by a signal handler that has interrupted the reading of this process' messages.
        """
        fd = process.outqR_fd
        if self.is_reading(fd):
            sleep(timeout)
            return False
        if not process.outq._reader.poll(timeout):
            return False
        handler: Any = self
        before, self._reading = self._reading, fd
        try:
            # Ends a message that the event loop has read half of.
            handler._flush_outqueue(fd, lambda fd: None, self.fileno_to_outq, handler.on_state_change)
        finally:
            self._reading = before
        return True

    def is_reading(self, fd: int) -> bool:
        """Whether a message is being read from this pipe: a signal handler asks that has interrupted the reading."""
        _, rest = self._half_read.get(fd, (None, None))
        return fd == self._reading or (rest is not None and getgeneratorstate(rest) == GEN_RUNNING)

    def resume(self) -> None:
        """Go on with what the last event loop has read half of. Call it when the next one reads from all processes."""
        for fd, (process, reader) in self._half_read.items():
            # Another process may have its number by now.
            if self.fileno_to_outq.get(fd) is process and getgeneratorstate(reader) == GEN_SUSPENDED:
                self._hub.add_reader(fd, reader)

    def on_stop_not_started(self) -> None:
        """Read as Celery does when the pool ends, then from the process that claims jobs itself until it has exited.

        It exits after its last report, and cannot write one for which its pipe has no room.
        """
        super().on_stop_not_started()
        for fd, process in list(self.fileno_to_outq.items()):
            if process.index == 0:
                # Its pipe may have been closed.
                with suppress(OSError, EOFError):
                    self._read_until_exit(fd, process)

    def _read_until_exit(self, fd: int, process: Any) -> None:
        handler: Any = self
        unreadable: list[int] = []
        while not unreadable:
            # In this order: what it writes before it exits is read.
            has_exited = process.exitcode is not None
            if process.outq._reader.poll(0 if has_exited else EXIT_POLL):
                handler._flush_outqueue(fd, unreadable.append, self.fileno_to_outq, handler.on_state_change)
            elif has_exited:
                break
