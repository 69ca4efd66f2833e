"""One pool call for many requests, which hands on the pool's reports to each request.

A call costs a message in each direction, whatever number of jobs it has. Nobody else may notice that they share one:
each job has its own events, acknowledgement and revoke, and is not blamed for a process that another one ended.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

from celery.worker import state

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.worker.group.child import GroupedJob, run_group
from pattern_storage.tasks.worker.plain_request import PlainRequest
from pattern_storage.tasks.worker.runtime import SLOW
from pattern_storage.tasks.worker.started import mark_started

logger = get_logger(__name__)


class GroupCall:
    """Some requests in one process of the pool; events, acknowledgements and revokes stay each request's own."""

    def __init__(self, requests: Sequence[PlainRequest], grouper: Any) -> None:
        self._requests, self._size = requests, len(requests)
        self._grouper = grouper
        #: The timer that stores STARTED for jobs that are still running.
        self._slow: Any = None

    def apply(self) -> None:
        """Hand the requests to the pool."""
        if not self._grouper.in_loop:
            # A thread that begins the group may not set the timer.
            self._call_if_slow()
        jobs = [
            GroupedJob(request.type, request.id, request.request_dict, request.raw_body) for request in self._requests
        ]
        soft, hard = self.limits
        result = self._grouper.consumer.pool.apply_async(
            run_group,
            args=(jobs,),
            accept_callback=self.on_accepted,
            timeout_callback=self._on_timeout,
            callback=self.on_ended,
            error_callback=self.on_lost,
            soft_timeout=soft,
            timeout=hard,
            correlation_id=self._requests[0].id,
        )
        for request in self._requests:
            # What `revoke(terminate=True)` asks for; None from a pool that cannot.
            request._apply_result = None if result is None else ref(result)

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The soft and the hard time limit in seconds, None without one.

        Of several limits the longest: a group that passes it is rolled back, and each job goes alone.
        """
        tasks = {request.task for request in self._requests}
        soft = max(task.soft_time_limit or 0.0 for task in tasks)
        return soft or None, max(task.time_limit or 0.0 for task in tasks) or None

    def _call_if_slow(self) -> None:
        # Here: in the pool process the thread that would have to do it waits for PostgreSQL.
        self._slow = self._grouper.consumer.hub.call_later(SLOW, self.mark_started)

    def mark_started(self) -> None:
        """Store STARTED for the jobs that are still running."""
        mark_started(request.id for request in self._requests if not request.acknowledged)

    def on_accepted(self, pid: int, accepted_at: float) -> None:
        """Report to each request that a pool process began then (`time.monotonic`)."""
        if self._slow is None:
            self._call_if_slow()
        for request in self._requests:
            _report(request, request.on_accepted, pid, accepted_at)
        self._grouper.begin_ahead()

    def _on_timeout(self, soft: bool, timeout: float) -> None:
        logger.warning(
            "%d jobs passed the %s time limit of %g s together; each is executed alone",
            self._size, "soft" if soft else "hard", timeout,
        )  # fmt: skip

    def on_ended(self, outcomes: Any) -> None:
        """Report each job's outcome to its request; a job without an outcome goes alone."""
        if not isinstance(outcomes, list):
            # A pool of threads reports in this way that the call was ended from outside.
            self.on_lost(outcomes)
            return
        for request, outcome in zip(self._end(), outcomes, strict=True):
            if outcome is None:
                _report(request, self._execute_alone, request)
            else:
                _report(request, request.on_success, outcome)

    def on_lost(self, failure: Any) -> None:
        """Execute each job alone: the process was lost, and one of them may be the reason.

        Jobs that had committed are replayed. The loss counts as an attempt of none of them; if the guilty one kills its
        process again, that counts.
        """
        requests = self._end()
        if state.should_terminate:
            return
        logger.warning("%d jobs of a lost group are executed alone: %s", len(requests), failure.exception)
        for request in requests:
            _report(request, self._execute_alone, request)

    def _end(self) -> Sequence[PlainRequest]:
        """Return the requests, and forget them: kombu keeps a timer that was cancelled until it would have been due."""
        if self._slow is not None:
            self._slow.cancel()
        self._grouper.end()
        requests, self._requests = self._requests, ()
        return requests

    def _execute_alone(self, request: PlainRequest) -> None:
        if request._already_revoked or request._already_cancelled or request.acknowledged:
            return
        # It waits again: to terminate it must not end the process that had the group, which has other jobs by now.
        state.active_requests.discard(request)
        request.was_accepted = request.time_start is not None
        request.time_start = request.worker_pid = request._apply_result = None
        self._grouper.execute_alone(request)


def _report(request: PlainRequest, report: Callable[..., Any], *values: Any) -> None:
    """Call a method that reports something to a request, and log its errors: the other requests need their reports."""
    try:
        report(*values)
    except Exception:
        logger.exception("a report about %s failed", request.id)
