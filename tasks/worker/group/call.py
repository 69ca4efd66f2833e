"""One pool call for many requests: what the pool reports of it is reported to each request."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import ref

from celery.worker import state

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.worker.group.child import GroupedJob, run_group
from pattern_storage.tasks.worker.runtime import SLOW
from pattern_storage.tasks.worker.started import mark_started

logger = get_logger(__name__)


class GroupCall:
    """Some requests in one process of the pool; events, acknowledgements and revokes stay each request's own."""

    def __init__(self, requests: Sequence[Any], grouper: Any) -> None:
        self._requests = requests
        self._grouper = grouper
        self._hub: Any = None
        #: The timer that says that the jobs are still running.
        self._slow: Any = None

    def apply(self, pool: Any, hub: Any) -> None:
        """Hand the requests to the pool."""
        self._hub = hub
        if not self._grouper.in_loop:
            # A thread may not set the timer when it begins; it does so at once.
            self._call_if_slow()
        soft, hard = self._time_limits()
        result = pool.apply_async(
            run_group,
            args=([GroupedJob(one.type, one.id, one.request_dict, one.encoded_body) for one in self._requests],),
            accept_callback=self._on_accepted,
            timeout_callback=self._on_timeout,
            callback=self._on_ended,
            error_callback=self._on_lost,
            soft_timeout=soft,
            timeout=hard,
            correlation_id=self._requests[0].id,
        )
        for request in self._requests:
            # What `revoke(terminate=True)` asks for; None from a pool that cannot.
            request._apply_result = None if result is None else ref(result)

    def _time_limits(self) -> tuple[float | None, float | None]:
        """Return the longest limits of the jobs: a group that passes one is rolled back, and each job goes alone."""
        tasks = {one.task for one in self._requests}
        soft, hard = ([getattr(one, name) or 0.0 for one in tasks] for name in ("soft_time_limit", "time_limit"))
        return max(soft) or None, max(hard) or None

    def _call_if_slow(self) -> None:
        # Here: in the pool process the thread that would have to say so waits for PostgreSQL.
        self._slow = self._hub.call_later(SLOW, self._mark_started)

    def _on_accepted(self, pid: int, accepted_at: float) -> None:
        if self._slow is None:
            self._call_if_slow()
        for request in self._requests:
            with _others_go_on(request):
                request.on_accepted(pid, accepted_at)
        self._grouper.begin_ahead()

    def _on_timeout(self, soft: bool, timeout: float) -> None:
        logger.warning(
            "%d jobs passed the %s time limit of %g s together; each is executed alone",
            len(self._requests), "soft" if soft else "hard", timeout,
        )  # fmt: skip

    def _on_ended(self, outcomes: Any) -> None:
        """Report each job's outcome to its request; where there is none the job goes alone."""
        if not isinstance(outcomes, list):
            # How a pool of threads says that the call was ended from outside.
            self._on_lost(outcomes)
            return
        self._end()
        for request, outcome in zip(self._requests, outcomes, strict=True):
            with _others_go_on(request):
                if outcome is None:
                    self._execute_alone(request)
                else:
                    request.on_success(outcome)

    def _on_lost(self, failure: Any) -> None:
        """Execute each job alone: the process was lost, and one of them may be the reason.

        What had committed is replayed. No job's attempts are counted for it; the guilty one's will be.
        """
        self._end()
        if state.should_terminate:
            return
        logger.warning("%d jobs of a lost group are executed alone: %s", len(self._requests), failure.exception)
        for request in self._requests:
            with _others_go_on(request):
                self._execute_alone(request)

    def _end(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
        self._grouper.end()

    def _mark_started(self) -> None:
        mark_started(request.id for request in self._requests if not request.acknowledged)

    def _execute_alone(self, request: Any) -> None:
        if request._already_revoked or request._already_cancelled or request.acknowledged:
            return
        # It waits again: to terminate it must not end the process that had the group, which has other jobs by now.
        state.active_requests.discard(request)
        request.time_start = request.worker_pid = request._apply_result = None
        self._grouper.execute_alone(request)


@contextmanager
def _others_go_on(request: Any) -> Iterator[None]:
    """Log what is raised about one request: the others of its group must hear of their ends all the same."""
    try:
        yield
    except Exception:
        logger.exception("a report about %s failed", request.id)
