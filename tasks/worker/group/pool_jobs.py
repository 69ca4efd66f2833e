"""Jobs that a pool process has claimed itself: the main process permits it, and hears of them when they have ended."""

import os
import signal
from contextlib import suppress
from time import monotonic
from types import SimpleNamespace
from typing import Any

from billiard.pool import SIG_SOFT_TIMEOUT
from celery import bootsteps, signals
from celery.worker import state
from celery.worker.consumer import Tasks
from redis.exceptions import ResponseError

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.transport.channel import Channel
from pattern_storage.tasks.worker.group.call import GroupCall
from pattern_storage.tasks.worker.group.grouper import Grouper
from pattern_storage.tasks.worker.group.permit import Permit
from pattern_storage.tasks.worker.group.plain_message import TASKS
from pattern_storage.tasks.worker.group.pool_claims import BEGUN, ENDED, MOVED
from pattern_storage.tasks.worker.group.request import PlainRequest

logger = get_logger(__name__)


#: Seconds that a worker which ends waits for the job that a pool process has just claimed.
STOP_TIMEOUT = 1.0


class PoolJobs(bootsteps.StartStopStep):
    """Bootstep of a worker's consumer."""

    requires = (Tasks,)

    def __init__(self, c: Any, **options: Any) -> None:
        super().__init__(c, **options)
        self._consumer = c
        #: The pool that has been told to report to this, and what it shares with its processes.
        self._pool: Any = None
        self._permit = Permit()
        #: The channel that messages came from at last.
        self._last_channel: Channel | None = None
        self._queue = c.app.conf.task_default_queue
        # The job that has been running for so long that it is treated as every other, and its time limits.
        self._long: GroupCall | None = None
        self._long_message = b""
        self._limits: list[Any] = []
        c.storage_pool_jobs = self

    def start(self, c: Any) -> None:
        """Begin to permit claims, where jobs are executed in groups by processes."""
        if self._grouper is None or not self._grouper.in_loop:
            return
        c.hub.on_tick.add(self.update)

    def stop(self, c: Any) -> None:
        """Permit no more. If the worker ends, hear of the job that has just been claimed: later nobody would listen."""
        if c.hub is not None:
            c.hub.on_tick.discard(self.update)
        self.withdraw()
        if state.should_stop is None or state.should_stop is False or self._pool is None:
            return
        deadline = monotonic() + STOP_TIMEOUT
        while self._permit.holds and (left := deadline - monotonic()) > 0 and self._pool.read_report(min(0.01, left)):
            pass

    shutdown = stop

    @property
    def _grouper(self) -> Grouper | None:
        grouper: Grouper | None = getattr(self._consumer, "storage_grouper", None)
        return grouper

    @property
    def _channel(self) -> Channel | None:
        """The channel that messages come from; None before there is one, and for another broker."""
        channel = getattr(self._consumer.task_consumer, "channel", None)
        return channel if isinstance(channel, Channel) else None

    def update(self) -> None:
        """Grant or withdraw the permit. Called in each iteration of the event loop."""
        pool, channel = self._consumer.pool._pool, self._channel
        if pool is None:
            return
        if pool is not self._pool:
            # Also after the pool was restarted.
            self._pool, self._permit = pool, pool.permit
            pool.on_claimed, pool.on_claimer_lost = self.on_report, self.on_lost
        permit = self._permit
        if channel is not None and channel is not self._last_channel:
            self._last_channel = channel
            channel.claims.delegated.on_stop = self.withdraw
        # Those that come meanwhile are collected.
        permit.busy = any(isinstance(request, PlainRequest) for request in state.reserved_requests)
        if not self._may_claim():
            self.withdraw()
        elif not permit.granted and channel is not None and channel.claims.queues_are_empty:
            # Not while a claim of many is on its way: what it takes would overtake the messages before.
            permit.granted = True

    def _may_claim(self) -> bool:
        """Whether nothing has to be asked or told before a job begins."""
        consumer, channel, grouper = self._consumer, self._channel, self._grouper
        return (
            channel is not None
            and grouper is not None
            and channel.claims.delegated.may_wait(self._queue)
            and grouper.is_open
            and not grouper.traced
            and not consumer.controller.state.revoked
            and not state.revoked_stamps
            and not signals.task_received.receivers
            # A single process executes all jobs in the order of the queue.
            and consumer.pool.num_processes > 1
            # An autoscaler.
            and not consumer.on_task_message
            and not consumer.controller.max_memory_per_child
            and (consumer.disable_rate_limits or not any(map(consumer.task_buckets.get, TASKS)))
            and not (consumer.restart_count > 0 and not consumer._maximum_prefetch_restored)
        )

    def withdraw(self) -> None:
        """Withdraw the permit, and wake the pool process if it waits for a message."""
        permit, channel = self._permit, self._channel
        if not permit.granted:
            return
        permit.granted = False
        if channel is not None and permit.client_id:
            # It notices a broken connection as well, or looks at its permit within a second.
            with suppress(*channel.connection_errors, ResponseError):
                channel.plain_client.client_unblock(permit.client_id)

    # --- reports ---

    def on_report(self, kind: str, pid: int, raw: bytes, *values: Any) -> None:
        """Handle a report of a pool process, see `pool_claims`."""
        try:
            if kind == MOVED:
                self._on_moved(raw)
            elif kind == BEGUN:
                self._on_begun(pid, raw, *values)
            elif kind == ENDED:
                self._on_ended(pid, raw, *values)
        except Exception:
            logger.exception("a report of process %d failed; its job is delivered again", pid)

    def on_lost(self, pid: int) -> None:
        """Execute the job that a pool process had claimed when it ended, if it had one."""
        raw = self._permit.take()
        if not raw and self._long is None:
            return
        try:
            call = self._long or self._call(raw, pid, monotonic())
            self._forget_long()
            if call is not None:
                call.on_lost(SimpleNamespace(exception=f"process {pid} ended"))
        # The connection may be lost as well.
        except Exception:
            logger.exception("the job of process %d, which ended, is delivered again", pid)

    def _on_moved(self, raw: bytes) -> None:
        if self._channel is not None:
            self._channel.claims.delegated.claim_moved(self._queue, raw)

    def _on_begun(self, pid: int, raw: bytes, began: float) -> None:
        """Treat a job that takes long as any other: it is shown, and can be terminated by a limit or an operator."""
        self._long = self._call(raw, pid, began)
        if self._long is None:
            return
        self._long_message = raw
        self._long.mark_started()
        soft, hard = self._long.limits
        for seconds, number in ((soft, SIG_SOFT_TIMEOUT), (hard, signal.SIGKILL)):
            if seconds:
                self._limits.append(self._consumer.hub.call_later(began + seconds - monotonic(), _send, pid, number))

    def _on_ended(self, pid: int, raw: bytes, outcome: Any, began: float, waiting: int) -> None:
        call = self._long if self._long_message == raw else None
        if call is None:
            call = self._call(raw, pid, began)
        self._forget_long()
        if call is not None:
            call.on_ended([outcome])
        elif outcome is not None and (last := self._last_channel) is not None and last.connection is not None:
            # The queue is not consumed from any more.
            with suppress(*last.connection_errors):
                last.claims.delegated.acknowledge(raw)
        if (channel := self._channel) is not None and self._permit.granted:
            # The event loop notices a broken connection as well.
            with suppress(*channel.connection_errors):
                channel.claims.delegated.wait_last(waiting)

    def _call(self, raw: bytes, pid: int, began: float) -> GroupCall | None:
        """Deliver the message as if it had been claimed here, and return a call that has begun with its job.

        None if Celery has the job: it was revoked meanwhile, for example.
        """
        channel, grouper = self._channel, self._grouper
        if channel is None or channel.connection is None or grouper is None or self._queue not in channel.active_queues:
            return None
        with grouper.diverted() as requests:
            channel.claims.delegated.deliver(self._queue, raw)
        if not requests:
            return None
        call = GroupCall(requests, grouper)
        call.on_accepted(pid, began)
        return call

    def _forget_long(self) -> None:
        self._long, self._long_message = None, b""
        while self._limits:
            self._limits.pop().cancel()


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        logger.debug("process %d has ended", pid)
