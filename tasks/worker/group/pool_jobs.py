"""Permit of a pool process to claim jobs itself: when the main process grants it, and when it withdraws it."""

from contextlib import suppress
from time import monotonic
from typing import Any

from celery import bootsteps, signals
from celery.worker import state
from celery.worker.consumer import Tasks
from redis.exceptions import ResponseError

from pattern_storage.tasks.worker.group.permit import Permit
from pattern_storage.tasks.worker.group.plain_message import TASKS
from pattern_storage.tasks.worker.group.pool_reports import PoolReports
from pattern_storage.tasks.worker.group.request import PlainRequest

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
        self._reports = PoolReports(c)
        c.storage_pool_jobs = self

    def start(self, c: Any) -> None:
        """Begin to permit claims, where jobs are executed in groups by processes."""
        if self._reports.grouper is None or not self._reports.grouper.in_loop:
            return
        c.hub.on_tick.add(self.update)

    def stop(self, c: Any) -> None:
        """Permit no more. If the worker ends, hear of the job that has just been claimed: later nobody would listen."""
        if c.hub is not None:
            c.hub.on_tick.discard(self.update)
        self.withdraw()
        if state.should_stop is None or state.should_stop is False:
            # What has ended is concluded on the next connection.
            return
        if self._pool is not None:
            deadline = monotonic() + STOP_TIMEOUT
            while self._permit.holds and (left := deadline - monotonic()) > 0:
                if not self._pool.read_report(min(0.01, left)):
                    break
        self._reports.conclude()

    shutdown = stop

    def update(self) -> None:
        """Grant or withdraw the permit. Called in each iteration of the event loop."""
        pool, channel = self._consumer.pool._pool, self._reports.channel
        if pool is None:
            return
        if pool is not self._pool:
            # Also after the pool was restarted.
            self._pool, self._permit = pool, pool.permit
            pool.on_claimed, pool.on_claimer_lost = self._reports.on_report, self._on_lost
        permit = self._permit
        if channel is not None and channel is not self._reports.last_channel:
            self._reports.last_channel = channel
            channel.claims.delegated.on_stop_waiting = self.withdraw
        # Those that come meanwhile are collected.
        permit.busy = any(isinstance(request, PlainRequest) for request in state.reserved_requests)
        if permit.busy:
            # No process begins to wait now.
            self._reports.resume_waiting()
        if not self._may_claim():
            self.withdraw()
        elif not permit.granted and channel is not None and channel.claims.queues_are_empty:
            # Not while a claim of many is on its way: what it takes would overtake the messages before.
            permit.granted = self._reports.may_leave = True

    def _may_claim(self) -> bool:
        """Whether nothing has to be asked or told before a job begins."""
        consumer, channel, grouper = self._consumer, self._reports.channel, self._reports.grouper
        return (
            channel is not None
            and grouper is not None
            and channel.claims.delegated.may_wait(self._reports.queue)
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

    def conclude(self) -> None:
        """Do what is left to do of the jobs that have ended."""
        self._reports.conclude()

    def withdraw(self) -> None:
        """Withdraw the permit, and wake the pool process if it waits for a message."""
        permit, channel = self._permit, self._reports.channel
        if not permit.granted:
            return
        permit.granted = self._reports.may_leave = False
        self._reports.resume_waiting()
        if channel is not None and permit.client_id:
            # It notices a broken connection as well, or looks at its permit within a second.
            with suppress(*channel.connection_errors, ResponseError):
                channel.plain_client.client_unblock(permit.client_id)

    def _on_lost(self, pid: int) -> None:
        self._reports.on_lost(pid, self._permit.take())
