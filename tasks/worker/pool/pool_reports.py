"""Reports of a pool process about jobs that it has claimed itself: the main process does its share of each.

That is what Celery does of every job, events and acknowledgement among it. It comes after the result, so that nobody
waits for it. While the process has one job after the other, the main process neither waits for messages nor does its
share of each job at once: it would take a processor, and its caches, from the next job.
"""

from contextlib import suppress
from time import monotonic
from types import SimpleNamespace
from typing import Any

from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.transport.channel import Channel
from pattern_storage.tasks.transport.message import load
from pattern_storage.tasks.transport.scripts import RELEASE
from pattern_storage.tasks.worker.group.call import GroupCall
from pattern_storage.tasks.worker.group.grouper import Grouper
from pattern_storage.tasks.worker.pool.long_job import LongJob
from pattern_storage.tasks.worker.pool.pool_claims import BEGUN, BUSY, ENDED, MOVED

logger = get_logger(__name__)

#: Seconds for which reports of jobs that have ended wait for others. If there was none, the main process waits for
#: messages itself.
INTERVAL = 0.025
#: Messages that wait behind a job of the process, from which on the main process collects them. One is the next job.
BACKLOG = 2


class PoolReports:
    """Handles the reports, on behalf of a worker's consumer."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.queue: str = consumer.app.conf.task_default_queue
        #: The newest channel that messages come from.
        self.last_channel: Channel | None = None
        #: Whether the process may be left alone with waiting: it has the permit.
        self.may_leave = False
        # Of jobs that have ended, until the timer.
        self._ended: list[tuple[Any, ...]] = []
        self._timer: Any = None
        self._long = LongJob(consumer)

    @property
    def grouper(self) -> Grouper | None:
        """The grouper of the consumer's connection, if jobs are executed in groups."""
        grouper: Grouper | None = getattr(self._consumer, "storage_grouper", None)
        return grouper

    @property
    def channel(self) -> Channel | None:
        """The channel that messages come from; None before there is one, and for another broker."""
        channel = getattr(self._consumer.task_consumer, "channel", None)
        return channel if isinstance(channel, Channel) else None

    @property
    def has_long(self) -> bool:
        """Whether the process has a job that is treated as every other, since it takes long."""
        return self._long.call is not None

    @property
    def _is_connected(self) -> bool:
        channel = self.channel
        return channel is not None and channel.connection is not None

    def on_report(self, kind: str, pid: int, raw: bytes, *values: Any) -> None:
        """Handle a report, see `pool_claims`."""
        try:
            if kind == MOVED:
                self._on_moved(raw)
            elif kind == BUSY:
                self.resume_waiting(claim=True)
            elif kind == BEGUN:
                self._on_begun(pid, raw, *values)
            elif kind == ENDED:
                *outcome, waiting = values
                self._ended.append((pid, raw, *outcome))
                self._schedule(waiting)
        except Exception:
            logger.exception("a report of process %d failed; its job is delivered again", pid)

    def on_lost(self, pid: int, raw: bytes) -> None:
        """Execute the job that a process had claimed when it ended; `raw` is its message, empty if there was none."""
        self.conclude()
        self.resume_waiting(claim=True)
        if not raw and not self.has_long:
            return
        try:
            call = self._long.call or self._call(raw, pid, monotonic())
            self._long.end()
            if call is not None:
                call.on_lost(SimpleNamespace(exception=f"process {pid} ended"))
        # The connection may be lost as well.
        except Exception:
            logger.exception("the job of process %d, which ended, is delivered again", pid)

    # --- one job after the other ---

    def _schedule(self, waiting: int) -> None:
        """Leave waiting to the process, and conclude its job with others; at once if it is not to go on like that."""
        channel = self.channel
        if waiting >= BACKLOG or self.has_long or channel is None or not self.may_leave:
            self.conclude()
            self.resume_waiting(claim=waiting > 0)
            return
        if self._timer is None:
            self._timer = self._consumer.hub.call_later(INTERVAL, self._on_timer)
        # The event loop notices a broken connection as well.
        with suppress(*channel.connection_errors):
            channel.claims.delegated.leave_waiting(self.queue)

    def _on_timer(self) -> None:
        self._timer = None
        if self._ended and not self._is_connected:
            # They are acknowledged on the next connection.
            self._timer = self._consumer.hub.call_later(INTERVAL, self._on_timer)
        elif not self._ended:
            # The process waits as well, and has done so for longer: it gets the next message.
            self.resume_waiting()
        else:
            self.conclude()
            self._timer = self._consumer.hub.call_later(INTERVAL, self._on_timer)

    def resume_waiting(self, *, claim: bool = False) -> None:
        """Have the main process wait for messages again, after a claim if there may be some."""
        if (channel := self.channel) is not None:
            channel.claims.delegated.resume_waiting(claim=claim)

    def conclude(self) -> None:
        """Do what is left to do of the jobs that have ended."""
        ended, self._ended = self._ended, []
        for pid, raw, outcome, began in ended:
            try:
                self._on_ended(pid, raw, outcome, began)
            except Exception:
                logger.exception("a job of process %d was not concluded; it is delivered again", pid)

    # --- each job ---

    def _on_moved(self, raw: bytes) -> None:
        if self.channel is not None:
            self.channel.claims.delegated.claim_moved(self.queue, raw)

    def _on_begun(self, pid: int, raw: bytes, began: float) -> None:
        """Treat a job that takes long as any other: it is shown, and can be terminated by a limit or an operator."""
        self.conclude()
        self._mark_claimer(busy=True)
        if (call := self._call(raw, pid, began)) is not None:
            self._long.begin(call, raw, pid, began)

    def _mark_claimer(self, *, busy: bool) -> None:
        if (pool := self._consumer.pool._pool) is not None:
            pool.mark_claimer(busy=busy)

    def _on_ended(self, pid: int, raw: bytes, outcome: Any, began: float) -> None:
        self._mark_claimer(busy=False)
        call = self._long.end() if self._long.message == raw else self._call(raw, pid, began)
        if call is not None:
            call.on_ended([outcome])
        elif (last := self.last_channel) is not None and last.connection is not None:
            with suppress(*last.connection_errors):
                if outcome is not None:
                    last.claims.delegated.acknowledge(raw)
                elif self.queue not in last.active_queues:
                    # Otherwise Celery executes it.
                    _release(last, self.queue, raw)

    def _call(self, raw: bytes, pid: int, began: float) -> GroupCall | None:
        """Deliver the message as if it had been claimed here, and return a call that has begun with its job.

        None if the queue is not consumed from, and if Celery has the job: it was revoked meanwhile, for example.
        """
        channel, grouper = self.channel, self.grouper
        if channel is None or channel.connection is None or grouper is None or self.queue not in channel.active_queues:
            return None
        with grouper.diverted() as requests:
            channel.claims.delegated.deliver(self.queue, raw)
        if not requests:
            return None
        call = GroupCall(requests, grouper)
        call.on_accepted(pid, began)
        return call


def _release(channel: Channel, queue: str, raw: bytes) -> None:
    """Put a claimed message back as if it had never been claimed: its job has not been executed."""
    [queue_key, *_] = channel.queue_keys([queue])
    tag = load(raw)["properties"]["delivery_tag"]
    RELEASE.run(channel.plain_client, [*channel.unacked_keys, queue_key.key], [tag, raw])
