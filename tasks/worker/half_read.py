"""Messages of pool processes of which the main process has read a half.

When a connection to the broker breaks, Celery's event loop forgets everything that it reads, and then begins anew with
each process. It would take the rest of such a message for the beginning of another: it fails with a UnicodeDecodeError,
or waits for bytes that never come. Celery minds this only when a worker ends (`ResultHandler._finish_partial_read`).
"""

from collections.abc import Callable, Generator
from inspect import GEN_SUSPENDED, getgeneratorstate, isgenerator
from typing import Any

from celery.concurrency import asynpool


class ResultHandler(asynpool.ResultHandler):
    """Celery's handler of what processes report, which goes on with a message in the next event loop."""

    # Celery's, which its type stubs do not know.
    fileno_to_outq: dict[int, Any]
    _hub: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: By file descriptor: the process, and who has read half of its message.
        self._half_read: dict[int, tuple[Any, Generator[Any, Any, Any]]] = {}

    def _make_process_result(self, hub: Any) -> Callable[[int], None]:
        read = super()._make_process_result(hub)  # type: ignore[misc]

        def on_result_readable(fd: int) -> None:
            read(fd)
            callback, _ = hub.readers.get(fd) or (None, ())
            if isgenerator(callback):
                self._half_read[fd] = self.fileno_to_outq.get(fd), callback
            else:
                self._half_read.pop(fd, None)

        return on_result_readable

    def resume(self) -> None:
        """Go on with what the last event loop has read half of. Call it when the next one reads from all processes."""
        for fd, (process, reader) in self._half_read.items():
            # Another process may have its number by now.
            if self.fileno_to_outq.get(fd) is process and getgeneratorstate(reader) == GEN_SUSPENDED:
                self._hub.add_reader(fd, reader)
