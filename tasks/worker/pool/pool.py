"""Celery's prefork pool, whose calls are written at once where a process is free, and groups one ahead.

Celery's own writes a call in the next iteration of its event loop, after it has asked the kernel which process can be
written to; a job that comes alone waits for that. And a process that has ended a group waits for the main process,
which is busy with that group's events, unless it finds the next one in its pipe.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from time import monotonic
from typing import Any

from celery import bootsteps
from celery.concurrency import asynpool, prefork

from pattern_storage.tasks.worker.group import child
from pattern_storage.tasks.worker.half_read import ResultHandler
from pattern_storage.tasks.worker.pool.permit import Permit
from pattern_storage.tasks.worker.pool.process import CLAIMED, PoolProcess

#: Bytes of a pipe to a process: more than a group of 32 usual jobs has, and Linux' limit for a user who is not root. A
#: call that has not room in it is not written ahead: when the worker ends, Celery leaves it half written.
PIPE_SIZE = 1 << 20
#: Seconds since a group began, until which the next one may be written behind it.
SHORT = 0.25


class Pool(asynpool.AsynPool):
    """Celery's prefork pool, whose calls are written at once where a process is free, and groups one ahead.

    Celery's bookkeeping of calls that are written and not begun serves for these: if the process ends, another gets
    them, unless they were revoked.
    """

    Worker = PoolProcess
    ResultHandler = ResultHandler

    # Celery's, which its type stubs do not know.
    outbound_buffer: Any
    on_poll_start: Callable[[], None]
    _all_inqueues: set[int]
    _active_writes: set[int]
    _busy_workers: set[int]
    _cache: dict[int, Any]
    _quick_put: Callable[[Any], None]
    _put_back: Callable[[Any], None]
    _putlock: Any
    _result_handler: Any
    _pool: list[Any]
    _fileno_to_outq: dict[int, Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        # Before the processes are forked.
        self.permit = PoolProcess.permit = Permit()
        #: Called with what processes report about jobs that they have claimed themselves, and with those that end.
        self.on_claimed: Callable[..., None] = lambda *report: None
        self.on_claimer_lost: Callable[[int], None] = lambda pid: None
        super().__init__(*args, **options)
        self._result_handler.state_handlers[CLAIMED] = lambda *report: self.on_claimed(*report)

    def register_with_event_loop(self, hub: Any) -> None:
        """Read from all processes in an event loop, the first one or that after a broken connection."""
        super().register_with_event_loop(hub)
        self._result_handler.resume()

    def read_report(self, timeout: float) -> bool:
        """Read one message of the process that claims, in whole; return whether one came in so many seconds."""
        process = self._claimer
        return process is not None and self._result_handler.read(process, timeout)

    def read_reports(self) -> None:
        """Read what all processes have said."""
        for process in list(self._fileno_to_outq.values()):
            # Its pipe may have been closed.
            with suppress(OSError, EOFError):
                while self._result_handler.read(process, 0.0):
                    pass

    def kill_unreadable(self) -> None:
        """Kill each process whose report a signal handler cannot read, because it has interrupted its reading.

        Nobody knows whether its job has begun, and Celery would wait for it without end. It is delivered again.
        """
        for process in list(self._fileno_to_outq.values()):
            if self._result_handler.is_reading(process.outqR_fd):
                # It may have exited meanwhile.
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    @property
    def has_given(self) -> bool:
        """Whether a process that lives has the whole of a call that has not ended; it need not have begun."""
        given = [call._write_to for call in list(self._cache.values()) if not call.ready()]
        return any(
            process is not None and process.inqW_fd not in self._active_writes and process._is_alive()
            for process in given
        )

    def mark_claimer(self, *, busy: bool) -> None:
        """Note whether the process that claims has a job that takes long: its calls would wait behind it."""
        if (claimer := self._claimer) is None:
            return
        if busy:
            self._busy_workers.add(claimer.inqW_fd)
        elif claimer.inqW_fd in self._busy_workers and not self._calls_of(claimer.inqW_fd):
            self._busy_workers.discard(claimer.inqW_fd)

    @property
    def has_claimer(self) -> bool:
        """Whether the process that claims lives."""
        return self._claimer is not None and self._claimer.exitcode is None

    @property
    def _claimer(self) -> Any:
        return next((process for process in self._pool if process.index == 0), None)

    def flush(self) -> None:
        """Discard the calls that no process has been given: a connection ends, and their jobs are delivered again.

        Celery's own discards those that wait in a pipe as well, although their process will execute them: nobody would
        acknowledge their jobs, and a process that is to exit would wait half a minute for somebody to read its answer.
        """
        given = [
            (call, call._write_to) for call in self._cache.values() if not call._accepted and call._write_to is not None
        ]
        for call, _ in given:
            call._accepted = True
        try:
            super().flush()
        finally:
            for call, process in given:
                # Its process may have said meanwhile that it has begun.
                call._accepted = call._worker_pid is not None
                # By now another process may have the place of one that has ended.
                if not call._accepted and (process not in self._pool or not process._is_alive()):
                    call.discard()

    def process_flush_queues(self, proc: Any) -> None:
        """Read what a process has still reported; then its job is lost if it had claimed one."""
        super().process_flush_queues(proc)
        if proc.index == 0 and proc.exitcode is not None:
            self.on_claimer_lost(proc.pid)

    def create_process_queues(self) -> Any:
        """Return the pipes of a process; the pipe for calls holds a whole group, so that it is written at once."""
        queues = super().create_process_queues()
        with suppress(ImportError, OSError, AttributeError):
            import fcntl  # not on Windows

            fcntl.fcntl(queues[0]._writer.fileno(), fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        return queues

    def _create_write_handlers(self, hub: Any, **options: Any) -> None:
        # Celery asks the kernel for each call whether a process can be written to, and takes the question back in each
        # iteration of its event loop without a call.
        super()._create_write_handlers(hub, **options)  # type: ignore[misc]
        poll_writers, put, write = self.on_poll_start, self._quick_put, hub.consolidate_callback
        put_back = self._put_back

        def on_poll_start() -> None:
            if self.outbound_buffer or hub.consolidate:
                poll_writers()

        def put_and_write(call: Any) -> None:
            job, is_group = call[1][0], call[1][2] is child.run_group
            self._cache[job].is_group, self._cache[job].put_at = is_group, monotonic()
            # A signal handler that ends the worker reads reports too, perhaps in the middle of one about this call.
            self._cache[job]._mutex = RLock()
            put(call)
            if len(self.outbound_buffer) != 1:
                # Calls that have waited longer go first.
                return
            if free := self._all_inqueues - self._busy_workers - self._active_writes:
                # Celery writes the rest later if the pipe does not take all of it now.
                # The process that may wait for messages itself comes last.
                claimer = self._claimer
                write([next((pipe for pipe in free if claimer is None or pipe != claimer.inqW_fd), min(free))])
            elif (
                is_group and self._cache[job]._payload[-1] < PIPE_SIZE // 2 and (pipe := self._pipe_ahead()) is not None
            ):
                self._busy_workers.discard(pipe)
                write([pipe])

        def put_back_unwritten(job: Any) -> None:
            job._scheduled_for = job._write_to = None
            put_back(job)
            if job.ready():
                # It was revoked meanwhile, so it has ended here. billiard releases one slot for the lost process, which
                # had another call. One slot too many does no harm: its call then waits in the buffer.
                self._putlock.release()

        self.on_poll_start, self._quick_put, self._put_back = on_poll_start, put_and_write, put_back_unwritten

    @property
    def has_room_ahead(self) -> bool:
        """Whether a group would be written though no process is free."""
        return not self.outbound_buffer and self._pipe_ahead() is not None

    def _pipe_ahead(self) -> int | None:
        """Return the pipe of the process that has only one group, begun or written lately, and will be first to end it.

        A longer group would hold up the next one, which any other process may begin meanwhile. One that is not begun
        waits behind a job that the process has claimed itself.
        """
        began: dict[int, float] = {}
        for pipe in self._all_inqueues - self._active_writes:
            calls = self._calls_of(pipe)
            if len(calls) == 1 and calls[0].is_group:
                began[pipe] = calls[0]._time_accepted or calls[0].put_at
        began = {pipe: at for pipe, at in began.items() if at > monotonic() - SHORT}
        return min(began, key=began.__getitem__, default=None)

    def _calls_of(self, pipe: int) -> list[Any]:
        scheduled = ((call, call._scheduled_for) for call in self._cache.values() if not call.ready())
        return [call for call, process in scheduled if process is not None and process.inqW_fd == pipe]

    def on_job_ready(self, job: int, i: Any, obj: Any, pipe: int) -> None:
        """Note that a call has ended; its process is free unless it has the next one."""
        if all(call._job == job for call in self._calls_of(pipe)):
            super().on_job_ready(job, i, obj, pipe)


class GroupPool(bootsteps.Step):
    """Worker bootstep that makes this Celery's prefork pool."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        PoolProcess.hostname = worker.hostname
        prefork.TaskPool.Pool = Pool
