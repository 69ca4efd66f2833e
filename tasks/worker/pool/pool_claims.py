"""Claims of a pool process: it waits on Redis itself while the worker has nothing to do, and executes what comes.

That saves a job that comes alone the way through the main process, which hears of it when it has ended:

1. The blocking pop moves the message to the list `.claimed`, from which a sweep returns what is left behind.
2. The message is noted in the memory that is shared with the main process (`permit`).
3. The job is executed and its result stored, as that of a group of one. The claim, which records the message as
   unacked, is sent while PostgreSQL executes the statements. Before that, a message of at most MAX_SIZE is decoded and
   checked, which cannot end a whole worker: such a job would begin again and again, each time as if it were the first.
4. The reply to the claim is read.
5. The main process is told. It sends the events and acknowledges the message, as for every job (`pool_reports`).

If the process ends before the last step, the main process finds the message in the shared memory, and executes it. If
the whole worker ends, the message is redelivered as that of any job.
"""

import select
import signal
from collections.abc import Callable
from time import monotonic
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.transport.message import Message, Unreadable, load
from pattern_storage.tasks.worker.group.child import GroupedJob, run_group
from pattern_storage.tasks.worker.plain_message import TASKS, is_plain, raw_body, request_of
from pattern_storage.tasks.worker.pool.claim_connections import ClaimConnections
from pattern_storage.tasks.worker.pool.permit import MAX_SIZE, Permit
from pattern_storage.tasks.worker.runtime import SLOW

logger = get_logger(__name__)

#: Seconds between two looks at a permit that is not granted.
PAUSE = 0.05
#: Seconds between two looks at one that is.
CHECK = 1.0
#: Seconds after an error of the connection: the main process takes the messages meanwhile.
RETRY_DELAY = 5.0

#: Seconds that a job runs until the main process waits for the next messages.
BUSY_AFTER = 0.005

#: Reports to the main process: a message that it has to claim itself, a job that has been running for BUSY_AFTER
#: seconds, one for SLOW seconds, and one that ended.
MOVED, BUSY, BEGUN, ENDED = "moved", "busy", "begun", "ended"


class PoolClaims:
    """Waits for calls of the main process and for messages at once.

    Args:
        permit: shared with the main process.
        calls: file descriptor from which calls are read.
        report: sends a report to the main process.
        hostname: name of the worker.
        is_stopped: whether the process is to exit, since the pool is restarted.
    """

    def __init__(
        self,
        permit: Permit,
        calls: int,
        report: Callable[..., None],
        hostname: str,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_stopped = is_stopped
        self._permit, self._calls, self._report, self._hostname = permit, calls, report, hostname
        self._poll = select.poll()
        self._poll.register(calls, select.POLLIN)
        self._connections: ClaimConnections | None = None
        self._retry_at = 0.0
        # The message that is being executed and when that began, for the report that it takes long.
        self._running: tuple[bytes, float] | None = None

    def execute(self, limit: float) -> int:
        """Execute jobs until a call of the main process can be read, `limit` at most; return how many."""
        executed, is_called = 0, False
        while executed < limit and not is_called:
            try:
                waits = self._wait()
                # Also withdrawn in the moment in which the pop was sent.
                seconds = PAUSE if waits is None else CHECK if self._permit.granted else 0.0
                ready = dict(self._poll.poll(1000 * seconds))
                # Also to exit, which the loop does that reads the calls.
                is_called = self._calls in ready or self._is_stopped()
                if waits is not None:
                    if waits.pop_fd in ready:
                        executed += self._take(waits, waits.read_pop())
                    elif is_called or not self._permit.granted:
                        executed += self._take(waits, waits.wake())
                    else:
                        waits.check()
                elif self._connections is not None and self._connections.pop_fd in ready:
                    # Nothing is expected.
                    self._close(ConnectionResetError("closed by the server"))
            except (RedisError, OSError, SoftTimeLimitExceeded) as error:
                # A soft limit came after the job had ended, perhaps when half of a reply had been read.
                self._close(error)
        return executed

    def _wait(self) -> ClaimConnections | None:
        """Begin to wait if that is permitted; return the connections if the process waits."""
        connections = self._connections
        if connections is not None and connections.waits:
            return connections
        if not self._permit.granted or self._permit.busy or monotonic() < self._retry_at or self._poll.poll(0):
            # The jobs of a call are older than those that wait in the queue.
            return None
        try:
            if connections is None:
                connections = self._connections = ClaimConnections()
                self._poll.register(connections.pop_fd, select.POLLIN)
                self._permit.client_id = connections.client_id
                signal.signal(signal.SIGALRM, self._on_slow)
            connections.wait()
        except (RedisError, OSError, KombuError) as error:
            self._close(error)
            return None
        return connections

    def _close(self, error: Exception) -> None:
        """Close the connections after an error. What was claimed is in the shared memory, or returns with a sweep."""
        logger.info("this process claims no jobs for %.0f s: %s", RETRY_DELAY, error)
        self._retry_at = monotonic() + RETRY_DELAY
        self._permit.client_id = 0
        if self._connections is not None:
            self._poll.unregister(self._connections.pop_fd)
            self._connections.close()
            self._connections = None

    def _take(self, connections: ClaimConnections, raw: bytes | None) -> int:
        """Execute the job of a message that was moved, and return 1; leave any but a plain one to the main process."""
        if raw is None:
            return 0
        job = self._job_of(raw)
        if job is not None:
            # In this order: the main process withdraws the permit, then looks whether a job has begun.
            self._permit.hold(raw)
        # Withdrawn, for example because this job was revoked.
        if job is None or not self._permit.granted:
            self._permit.release()
            self._report(MOVED, raw)
            return 0
        outcome, waiting, began, error = None, 1, monotonic(), None
        try:
            try:
                self._running = raw, began
                signal.setitimer(signal.ITIMER_REAL, BUSY_AFTER, SLOW)
                [outcome] = run_group([job], lambda: connections.send_claim(raw))
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                self._running = None
            # Also that of a job without statements.
            connections.send_claim(raw)
            waiting = connections.read_claim()
        except (RedisError, OSError, SoftTimeLimitExceeded) as raised:
            # What was not claimed returns with a sweep, and is replayed.
            error = ConnectionError(f"the claim was not answered: {raised!r}")
        self._report(ENDED, raw, outcome, began, waiting)
        self._permit.release()
        if error is not None:
            raise error
        return 1

    def _job_of(self, raw: bytes) -> GroupedJob | None:
        if len(raw) > MAX_SIZE:
            return None
        try:
            message = Message(load(raw))
        except Unreadable:
            return None
        headers = message.headers
        # A producer's own description has to be replaced.
        if not is_plain(message) or headers["task"] not in TASKS or headers.get("kwargsrepr"):
            return None
        return GroupedJob(headers["task"], headers["id"], request_of(message, self._hostname), raw_body(message))

    def _on_slow(self, *_: Any) -> None:
        if self._running is None:
            return
        raw, began = self._running
        if monotonic() < began + SLOW:
            self._report(BUSY, raw)
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._report(BEGUN, raw, began)
