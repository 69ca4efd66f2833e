"""Collects the requests of plain jobs, and hands as many as are at hand to each pool process that is free.

The size of a group follows the load by itself, with no timer for which a job would have to wait: while all processes
are busy requests collect here, and one that finds a free process goes in this iteration of the event loop.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker import state
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from pattern_storage.config.settings import environment_settings
from pattern_storage.tasks.observability import traces
from pattern_storage.tasks.worker import runtime
from pattern_storage.tasks.worker.group.call import GroupCall
from pattern_storage.tasks.worker.message_validation import MessageInvalid, check_job, refuse
from pattern_storage.tasks.worker.plain_request import PlainRequest

#: Characters of messages after which a group is full: it is in memory several times, here and in the pool process.
MAX_SIZE = 4_000_000


class Grouper:
    """The requests that wait for a pool process, on one connection to the broker."""

    _is_closed = False

    def __init__(self, consumer: Any, size: int) -> None:
        self.consumer, self.connection = consumer, consumer.connection
        self._size = size
        self._waiting: deque[PlainRequest] = deque()
        self._is_called = self._asking = False
        #: Where requests go whose jobs a pool process has claimed itself.
        self._diverted: list[PlainRequest] | None = None
        #: Released here when a thread has done a group; a prefork pool releases its own for a process.
        self._threads: LaxBoundedSemaphore | None = None
        if not isinstance(consumer.pool, PreforkPool):
            self._threads = LaxBoundedSemaphore(consumer.pool.limit)
            runtime.give_threads_groups()
        self._slots = self._threads or consumer.controller.semaphore
        #: Whether each job is to show its own statements: those of a group belong to no job's span.
        self.traced = traces.wanted(environment_settings())

    @property
    def in_loop(self) -> bool:
        """Whether the pool reports everything in the thread of the event loop."""
        return self._threads is None

    @property
    def is_open(self) -> bool:
        """Whether jobs may begin: not after the connection broke, nor while the pool ends. They are delivered again."""
        is_open = not self._is_closed and self.consumer.connection is self.connection
        return is_open and bool(self.consumer.pool.active)

    def close(self) -> None:
        """Let no job begin any more. May be called from a signal handler."""
        self._is_closed = True

    def add(self, request: PlainRequest) -> None:
        """Take the request of a plain job."""
        if self._diverted is not None:
            self._diverted.append(request)
            return
        self._waiting.append(request)
        if not self._is_called:
            self._is_called = True
            # At the end of this iteration of the event loop: a claim delivers many messages in one.
            self.consumer.hub.call_soon(self._end_iteration)

    @property
    def diverts(self) -> bool:
        """Whether requests are those of jobs that a pool process has claimed itself."""
        return self._diverted is not None

    @contextmanager
    def diverted(self) -> Iterator[list[PlainRequest]]:
        """Return a context in which requests are not executed but put into the list that it yields."""
        requests: list[PlainRequest] = []
        self._diverted = requests
        try:
            yield requests
        finally:
            self._diverted = None

    def execute_alone(self, request: PlainRequest) -> None:
        """Hand a request to the pool as Celery does, or refuse its message. May be called from any thread."""
        if not self.is_open:
            state.task_ready(request)
            return
        try:
            check_job(request.message)
        except MessageInvalid as error:
            state.task_ready(request)
            self.consumer.hub.call_soon(refuse, request.message, error)
        else:
            self.consumer.on_task_request(request)

    def end(self) -> None:
        """Note that a group has ended. May be called from any thread."""
        if self._threads is not None:
            self.consumer.hub.call_soon(self._threads.release)

    def begin_ahead(self) -> None:
        """Hand whole groups to processes that are busy with one, so that they need not wait for the next."""
        while (
            self.in_loop
            and len(self._waiting) >= self._size
            and self.is_open
            and not self.traced
            and self.consumer.pool._pool.has_room_ahead
        ):
            if requests := list(self._take(1)):
                GroupCall(requests, self).apply()
                # The pool releases a slot when the group has ended.
                self._slots.acquire(self.begin_ahead)

    def _end_iteration(self) -> None:
        self._is_called = False
        if not self._asking:
            self._ask()
        self.begin_ahead()

    def _ask(self) -> None:
        self._asking = True
        self._slots.acquire(self._begin)

    def _begin(self) -> None:
        """Hand a share of the waiting requests to the pool process that has become free."""
        if not self.is_open:
            self._waiting.clear()
        requests = list(self._take(self._slots.value + 1))
        self._asking = bool(self._waiting)
        if len(requests) > (1 if self.traced else 0):
            GroupCall(requests, self).apply()
        else:
            self._slots.release()
            for request in requests:
                self.execute_alone(request)
        if self._asking:
            self._ask()

    def _take(self, free: int) -> Iterator[PlainRequest]:
        """Take the share of one of the processes that are free, at most MAX_SIZE of messages."""
        share = min(self._size, -(-len(self._waiting) // free))
        size = 0
        while share and self._waiting and size < MAX_SIZE:
            request = self._waiting.popleft()
            share, size = share - 1, size + len(request.raw_body)
            if not request.revoked():
                yield request


def grouper_of(consumer: Any) -> Grouper | None:
    """Return the grouper of the consumer's connection; None where jobs are not executed in groups.

    Each connection has its own: requests that waited when a connection broke are delivered again.
    """
    settings = environment_settings()
    # Groups have a connection of their own beside that of jobs that go alone.
    if (
        not settings.group_execution
        or settings.pool_max_size < 2
        or consumer.hub is None
        or not isinstance(consumer.pool, PreforkPool | ThreadPool)
    ):
        return None
    grouper: Grouper | None = getattr(consumer, "storage_grouper", None)
    if grouper is None or grouper.connection is not consumer.connection:
        grouper = consumer.storage_grouper = Grouper(consumer, settings.group_size)
    return grouper
