"""The actions of an operator on jobs, dead letters and queues; each is written to the audit.

What can be long goes in steps, each a transaction of its own with its effect: an action that is interrupted has done
what its audit entries say. Every action may be repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from redis.exceptions import RedisError

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage import ModelContractPatternStorage, audit, job_retries, jobs, ledger, outbox, pauses
from pattern_storage.storage.errors import FilterInvalid
from pattern_storage.storage.explanation import did_you_mean, printable
from pattern_storage.storage.job_filter import Cursor, JobFilter
from pattern_storage.storage.job_retries import Retried
from pattern_storage.storage.operations.base import Connection
from pattern_storage.storage.pauses import Pausable
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.status import marker
from pattern_storage.tasks.database import Database
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.operate.queues import redis_queues
from pattern_storage.tasks.operate.waiting_message import WaitingMessage
from pattern_storage.tasks.result_state_store import store
from pattern_storage.vocabulary import ErrorType, JobState, ListedState

T = TypeVar("T")

#: Jobs of one step.
STEP = 200

#: States that a job can be cancelled in, and those of jobs that can be sent again.
CANCELLABLE = (ListedState.QUEUED, ListedState.STARTED, ListedState.RETRY, ListedState.DEAD)
RETRIABLE = (ListedState.FAILURE, ListedState.REVOKED)


class Operator:
    """Acts in somebody's name, on the servers of these settings.

    Args:
        settings: PostgreSQL, queue and results.
        actor: who it is, for the audit.
    """

    def __init__(self, settings: Settings, actor: str) -> None:
        self._settings, self._actor = settings, actor
        self._database = Database(settings)

    # --- jobs ---

    async def cancel(self, ids: Sequence[UUID]) -> set[UUID]:
        """Cancel jobs, durably; return those that are cancelled now. The others had ended.

        Raises StorageError if PostgreSQL does not answer; Redis need not.
        """
        cancelled: set[UUID] = set()
        for start in range(0, len(ids), STEP):
            cancelled |= await self._run(partial(self._cancel, ids=ids[start : start + STEP]))
        return cancelled

    async def cancel_matching(self, wanted: JobFilter) -> int:
        """Cancel the jobs that a filter lets through and that have not ended: in our tables and in the broker."""
        wanted = _until_now(wanted)
        done = 0
        for state in wanted.among(*CANCELLABLE):
            done += await self._each_page(replace(wanted, states=(state,)), self._cancel_page)
        if wanted.among(ListedState.QUEUED) and self._settings.broker_kind.is_redis:
            for queue in QUEUES if wanted.queue is None else (wanted.queue,):
                done += await self._cancel_waiting(queue, wanted)
        return done

    async def retry(self, ids: Sequence[UUID], *, again: bool = False) -> Retried:
        """Send failed or cancelled jobs again, each under a new id; see `storage.job_retries.retry`."""

        async def step(connection: Connection) -> Retried:
            async with connection.transaction():
                done = await job_retries.retry(connection, ids, again=again)
                about = {"jobs": {str(old): str(new.correlation_id) for old, new in done.sent}}
                if done.sent:
                    await audit.record(connection, self._actor, "retry", about, len(done.sent))
            return done

        done = await self._run(step)
        await self._publish([contract for _, contract in done.sent])
        return done

    async def retry_matching(self, wanted: JobFilter) -> tuple[int, dict[UUID, str]]:
        """Send the jobs that a filter lets through again, those that failed or were cancelled.

        Return how many were sent, and of the others why not, of some hundred at most.
        """
        wanted = _until_now(wanted)
        refused: dict[UUID, str] = {}

        async def page(found: list[jobs.JobRow]) -> int:
            done = await self.retry([job.correlation_id for job in found])
            if len(refused) < STEP:
                refused.update(done.refused)
            return len(done.sent)

        sent = 0
        for state in wanted.among(*RETRIABLE):
            sent += await self._each_page(replace(wanted, states=(state,)), page)
        return sent, refused

    async def record(self, action: str, about: Mapping[str, Any], count: int) -> None:
        """Write an action to the audit that was done elsewhere, such as a replay of dead letters."""
        await self._run(lambda connection: audit.record(connection, self._actor, action, about, count))

    # --- queues ---

    async def pause_queue(self, name: str) -> bool:
        """Have no worker take anything from a queue until it is resumed; return whether it was not paused.

        Raises FilterInvalid for a name that no queue has.
        """
        return await self._pause(Pausable.QUEUE, _queue(name), "pause queue")

    async def resume_queue(self, name: str) -> bool:
        """Let workers take from a queue again; return whether it was paused."""
        return await self._resume(Pausable.QUEUE, _queue(name), "resume queue")

    async def purge_queue(self, name: str, report: Callable[[int], None] | None = None) -> int:
        """Empty a queue: its jobs are cancelled durably, and never come back; return how many messages there were.

        `report` is called with the number so far. Raises QueueUnreadable for RabbitMQ, and BrokerUnavailable.
        """
        _queue(name)
        purged = 0
        while True:
            with redis_queues(self._settings) as queues:
                messages = await asyncio.to_thread(queues.take, name, STEP)
            if not messages:
                return purged
            await self._cancel_messages(name, messages, "purge queue")
            purged += len(messages)
            if report is not None:
                report(purged)

    # --- imports ---

    async def pause_import(self, name: str) -> bool:
        """Have beat start no run of an import until it is resumed; return whether it was not paused."""
        return await self._pause(Pausable.IMPORT, name, "pause import")

    async def resume_import(self, name: str) -> bool:
        """Let beat start runs of an import again; return whether it was paused."""
        return await self._resume(Pausable.IMPORT, name, "resume import")

    # --- steps ---

    async def _pause(self, kind: Pausable, name: str, action: str) -> bool:
        async def step(connection: Connection) -> bool:
            async with connection.transaction():
                changed = await pauses.pause(connection, kind, name, actor=self._actor)
                if changed:
                    await audit.record(connection, self._actor, action, {"name": name}, 1)
            return changed

        return await self._run(step)

    async def _resume(self, kind: Pausable, name: str, action: str) -> bool:
        async def step(connection: Connection) -> bool:
            async with connection.transaction():
                changed = await pauses.resume(connection, kind, name)
                if changed:
                    await audit.record(connection, self._actor, action, {"name": name}, 1)
            return changed

        return await self._run(step)

    async def _cancel(self, connection: Connection, ids: Sequence[UUID]) -> set[UUID]:
        cancelled: set[UUID] = set()
        async with connection.transaction():
            for job in ids:
                result = await ledger.cancel(connection, job)
                if result.metadata.get("error_type") == ErrorType.REVOKED:
                    cancelled.add(job)
            if cancelled:
                about = {"jobs": sorted(map(str, cancelled))}
                await audit.record(connection, self._actor, "cancel", about, len(cancelled))
        await asyncio.to_thread(self._mark_revoked, cancelled)
        return cancelled

    async def _cancel_page(self, page: Sequence[jobs.JobRow]) -> int:
        return len(await self._run(partial(self._cancel, ids=[job.correlation_id for job in page])))

    async def _cancel_waiting(self, queue: str, wanted: JobFilter) -> int:
        """Cancel what waits in a queue; the messages stay, and say REVOKED when a worker comes to them."""
        cancelled, place = 0, 0
        while True:
            with redis_queues(self._settings) as queues:
                page = await asyncio.to_thread(queues.waiting, queue, wanted, offset=place, limit=STEP)
            if page.messages:
                cancelled += await self._cancel_messages(queue, page.messages, "cancel")
            if page.next is None:
                return cancelled
            place = page.next

    async def _cancel_messages(self, queue: str, messages: Sequence[WaitingMessage], action: str) -> int:
        asked: dict[UUID, ModelContractPatternStorage | None] = {
            message.correlation_id: message.contract for message in messages if message.correlation_id is not None
        }

        async def step(connection: Connection) -> set[UUID]:
            async with connection.transaction():
                cancelled = await ledger.cancel_all(connection, asked, queue=queue)
                about = {"queue": queue, "jobs": sorted(map(str, cancelled))}
                await audit.record(
                    connection, self._actor, action, about, len(messages) if action != "cancel" else len(cancelled)
                )
            return cancelled

        cancelled = await self._run(step)
        await asyncio.to_thread(self._mark_revoked, cancelled)
        return len(cancelled)

    def _mark_revoked(self, ids: set[UUID]) -> None:
        """Store REVOKED for those who wait for a result; the ledger has decided, so Redis may be down."""
        document, seconds = marker(JobState.REVOKED), self._settings.result_expires
        with suppress(RedisError), redis_connections.connect(self._settings) as results:
            keys = [result_key(job, self._settings.key_prefix) for job in ids]
            store(results, [(key, document, JobState.REVOKED, seconds) for key in keys])

    async def _each_page(self, wanted: JobFilter, act: Callable[[list[jobs.JobRow]], Awaitable[int]]) -> int:
        """Act on each page of jobs, the oldest first; return the sum of what `act` returns."""
        total, after = 0, None
        while True:
            listing = partial(jobs.list_jobs, wanted=wanted, descending=False, after=after, limit=STEP)
            page = await self._run(listing)
            if page.jobs:
                total += await act(page.jobs)
            if page.next is None:
                return total
            after = Cursor.parse(str(page.next))

    async def _publish(self, contracts: Sequence[ModelContractPatternStorage]) -> None:
        """Publish jobs of the outbox at once; a relay, or beat, does it later if the queue does not answer."""
        if not contracts:
            return
        ids, delay = [contract.correlation_id for contract in contracts], self._settings.relay_republish_delay
        with suppress(BrokerUnavailable):
            await asyncio.to_thread(self._submit, contracts)
            await self._run(lambda connection: outbox.mark_published(connection, ids, delay=delay))

    def _submit(self, contracts: Sequence[ModelContractPatternStorage]) -> None:
        with PatternStorageClient(
            redis_url=self._settings.redis_url,
            broker_url=self._settings.broker,
            result_backend_url=self._settings.result_backend,
        ) as client:
            client.submit_many(contracts)

    async def _run(self, function: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._database.run(function)


def _until_now(wanted: JobFilter) -> JobFilter:
    """Return the filter with an end: an action must not meet what it does itself."""
    return wanted.before(datetime.now(UTC))


def _queue(name: str) -> str:
    """Return the name. Raises FilterInvalid for one that no queue has."""
    if name not in QUEUES:
        raise FilterInvalid(f"there is no queue {printable(name)[:60]!r}; {did_you_mean(printable(name), QUEUES)}")
    return name
