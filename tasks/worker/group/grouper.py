"""Collects the requests of single writes, and hands as many as are at hand to each pool process that is free."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker import state
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from pattern_storage.config.settings import environment_settings
from pattern_storage.tasks.observability import traces
from pattern_storage.tasks.worker import runtime
from pattern_storage.tasks.worker.group.call import GroupCall
from pattern_storage.tasks.worker.group.request import PlainRequest
from pattern_storage.tasks.worker.message_validation import MessageInvalid, check_job, refuse
from pattern_storage.vocabulary import OperationName

#: The tasks whose jobs may share a transaction: a batch is large by itself, a query has limits of its own.
TASKS = frozenset(f"storage.{one}" for one in (OperationName.INSERT, OperationName.UPDATE, OperationName.DELETE))


#: Bytes of messages after which a group is full: it is in memory several times, here and in the pool process.
MAX_BYTES = 4_000_000


class Grouper:
    """Takes the place of the consumer's `on_task_request` in Celery's message handler, for one connection."""

    def __init__(self, consumer: Any, size: int) -> None:
        self.connection = consumer.connection
        self._consumer = consumer
        self._size = size
        self._waiting: deque[Any] = deque()
        self._is_called = self._asking = False
        #: What is released when a thread has done a group; a process of a prefork pool says so itself.
        self._threads: LaxBoundedSemaphore | None = None
        if not isinstance(consumer.pool, PreforkPool):
            self._threads = LaxBoundedSemaphore(consumer.pool.limit)
            runtime.give_threads_groups()
        self._slots = self._threads or consumer.controller.semaphore
        #: Whether each job is to show its own statements: those of a group belong to no job's span.
        self._traced = traces.wanted(environment_settings())

    def add(self, request: Any) -> None:
        """Take a request that Celery has reserved."""
        if can_share(request):
            self.add_plain(request)
        else:
            self.execute_alone(request)

    def add_plain(self, request: Any) -> None:
        """Take a request that may be executed in a group."""
        self._waiting.append(request)
        if not self._is_called:
            self._is_called = True
            # At the end of this turn of the event loop: a claim delivers many messages in one.
            self._consumer.hub.call_soon(self._end_turn)

    @property
    def in_loop(self) -> bool:
        """Whether all that the pool reports comes from the thread of the event loop."""
        return self._threads is None

    @property
    def is_open(self) -> bool:
        """Whether jobs may begin: not after the connection broke, nor while the pool ends. What waits comes again."""
        return bool(self._consumer.pool.active) and self._consumer.connection is self.connection

    def execute_alone(self, request: Any) -> None:
        """Hand a request to the pool as Celery does. May be called from any thread."""
        if not self._is_valid(request):
            return
        if self.is_open:
            self._consumer.on_task_request(request)
        else:
            state.task_ready(request)

    def _end_turn(self) -> None:
        self._is_called = False
        if not self._asking:
            self._ask()
        self.begin_ahead()

    def _ask(self) -> None:
        self._asking = True
        self._slots.acquire(self._begin)

    def begin_ahead(self) -> None:
        """Hand whole groups to processes that are busy with one, so that they need not wait for the next."""
        while (
            self._threads is None
            and len(self._waiting) >= self._size
            and self.is_open
            and not self._traced
            and self._consumer.pool._pool.has_room_ahead
        ):
            if requests := [one for one in self._take(1) if not one.revoked()]:
                GroupCall(requests, self).apply(self._consumer.pool, self._consumer.hub)
                # The pool releases a slot when the group has ended.
                self._slots.acquire(self.begin_ahead)

    def _begin(self) -> None:
        """Hand a share of the waiting requests to the pool process that has become free."""
        if not self.is_open:
            self._waiting.clear()
        requests = [one for one in self._take(self._slots.value + 1) if not one.revoked()]
        self._asking = bool(self._waiting)
        alone = self._traced and len(requests) == 1 and self._threads is None
        if not requests or (alone and not self._is_valid(requests[0])):
            self._slots.release()
        elif alone:
            self._consumer.controller._process_task(requests[0])
        else:
            GroupCall(requests, self).apply(self._consumer.pool, self._consumer.hub)
        if self._asking:
            self._ask()

    def _take(self, free: int) -> Iterator[Any]:
        """Take the share of one of the processes that are free, at most MAX_BYTES of messages."""
        share = min(self._size, -(-len(self._waiting) // free))
        taken = 0
        while share and self._waiting and taken < MAX_BYTES:
            request = self._waiting.popleft()
            share, taken = share - 1, taken + request.size
            yield request

    def _is_valid(self, request: Any) -> bool:
        """Return whether a message is one that can be worked on; refuse it otherwise.

        Of a plain job nobody has looked. May be called from any thread; what is refused changes what the loop keeps.
        """
        if not isinstance(request, PlainRequest):
            return True
        try:
            check_job(request.message)
        except MessageInvalid as error:
            state.task_ready(request)
            if self.in_loop:
                refuse(request.message, error)
            else:
                self._consumer.hub.call_soon(refuse, request.message, error)
            return False
        return True

    def end(self) -> None:
        """Note that a group has ended. May be called from any thread."""
        if self._threads is not None:
            self._consumer.hub.call_soon(self._threads.release)


def can_share(request: Any) -> bool:
    """Return whether a request may be executed in a group: a first delivery of a plain job.

    Alone go what was delivered before (a job that kills its process must not take others' attempts along), jobs with
    callbacks, which may need the result in Redis at once, and those with time limits or an expiry of their own.
    """
    headers = request.request_dict
    return (
        request.type in TASKS
        # One by one: a loop over the names takes three times as long, for each job.
        and not (headers.get("retries") or headers.get("group") or headers.get("expires") or headers.get("eta"))
        and not headers.get("stamped_headers")
        and not request.delivery_info.get("redelivered")
        and not any(headers.get("timelimit") or ())
        and request._terminate_on_ack is None
        and not request.has_links
    )


def grouper_of(consumer: Any) -> Grouper | None:
    """Return the grouper of the consumer's connection; None where jobs are not executed in groups.

    Each connection has its own: what waited when one broke is delivered again.
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
