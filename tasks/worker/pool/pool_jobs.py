"""Permit of a pool process to claim jobs itself: when the main process grants it, and when it withdraws it."""

from contextlib import suppress
from time import monotonic
from typing import Any

from celery import bootsteps, signals
from celery.worker import state
from celery.worker.consumer import Tasks
from redis.exceptions import ResponseError

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.worker.plain_message import TASKS
from pattern_storage.tasks.worker.plain_request import PlainRequest
from pattern_storage.tasks.worker.pool.permit import Permit
from pattern_storage.tasks.worker.pool.pool_reports import PoolReports
from pattern_storage.tasks.worker.soft_shutdown import is_ending, surround

logger = get_logger(__name__)

#: Seconds for which the job that a pool process has just claimed is waited for. If it takes longer than SLOW seconds,
#: the process says so by then.
HEAR_TIMEOUT = 1.0
#: Seconds between two looks whether it has ended.
HEAR_POLL = 0.01


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
        surround(c.controller, self._before_soft_shutdown, self._after_soft_shutdown)

    def start(self, c: Any) -> None:
        """Begin to permit claims, where jobs are executed in groups by processes."""
        if self._reports.grouper is None or not self._reports.grouper.in_loop:
            return
        if self._pool is not None and self._reports.has_long:
            # Celery has forgotten that with the last connection.
            self._pool.mark_claimer(busy=True)
        c.hub.on_tick.add(self.update)

    def stop(self, c: Any) -> None:
        """Permit no more. If the worker ends, hear what the process reports; the pool's end reads what comes later."""
        if c.hub is not None:
            c.hub.on_tick.discard(self.update)
        self.withdraw()
        # On the next connection what has ended is concluded.
        if is_ending():
            self._hear()

    shutdown = stop

    def _before_soft_shutdown(self) -> None:
        # In a signal handler, perhaps in the middle of a command to Redis: nobody is woken. The process looks at its
        # permit within CHECK seconds, and before each job.
        self._permit.granted = self._reports.may_leave = False
        if self._reports.grouper is not None:
            self._reports.grouper.close()
        if self._pool is not None:
            # A process that is found to be free would begin another job, which nobody would end or wait for.
            self._consumer.controller.semaphore.clear()
        if self._permit.holds:
            self._hear()
        pool = self._pool
        if pool is not None and (pool.has_given or (self._permit.holds and pool.has_claimer)):
            # Celery gives no time to jobs that it does not know have begun: nobody has read that yet, or this signal
            # has interrupted the reading.
            self._consumer.app.conf.worker_enable_soft_shutdown_on_idle = True

    def _after_soft_shutdown(self) -> None:
        # Celery ends only jobs that it knows have begun, and would wait for the others.
        try:
            if self._pool is not None:
                self._pool.read_reports()
                self._pool.kill_unreadable()
        except Exception:
            logger.exception("cannot read what pool processes report; their jobs are delivered again")
        self._hear()

    def _hear(self) -> None:
        """Handle all reports, until the job that was claimed has ended or is known here as one that takes long."""
        pool, deadline = self._pool, monotonic() + HEAR_TIMEOUT
        try:
            while pool is not None and monotonic() < deadline:
                comes = self._permit.holds and not self._reports.has_long and pool.has_claimer
                if not pool.read_report(HEAR_POLL if comes else 0.0) and not comes:
                    break
        # A pipe that was closed, or is being read: the signal handler has interrupted that.
        except Exception:
            logger.exception("cannot read what a pool process reports; its jobs are delivered again")
        self._reports.conclude()

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
            and not is_ending()
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

    def hear(self) -> None:
        """Permit no more for now, and handle what the process reports of the job that it has just claimed."""
        self.withdraw()
        self._hear()

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
