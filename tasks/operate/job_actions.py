"""Actions on jobs: cancel and retry, one or all that a filter lets through."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from pattern_storage.storage import ModelContractPatternStorage, audit, job_retries, jobs, outbox
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.storage.job_retries import Retried
from pattern_storage.storage.job_row import JobRow
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.operate.actions import STEP, Actions
from pattern_storage.tasks.operate.message_search import searched_queues, waiting_in_workers
from pattern_storage.tasks.operate.queues import redis_queues
from pattern_storage.vocabulary import ListedState

#: States that a job can be cancelled in, and those of jobs that can be sent again.
CANCELLABLE = (ListedState.QUEUED, ListedState.STARTED, ListedState.RETRY, ListedState.DEAD)
RETRIABLE = (ListedState.FAILURE, ListedState.REVOKED)


class JobActions(Actions):
    """Actions on jobs."""

    async def cancel_matching(self, wanted: JobFilter) -> int:
        """Cancel the jobs that a filter lets through and that have not ended: in our tables and in the broker."""
        wanted = _until_now(wanted)
        done = 0
        for state in wanted.among(*CANCELLABLE):
            done += await self._each_page(replace(wanted, states=(state,)), self._cancel_page)
        if wanted.among(ListedState.QUEUED) and self._settings.broker_kind.is_redis:
            with redis_queues(self._settings) as queues:
                names = await asyncio.to_thread(searched_queues, queues, wanted)
                taken = await asyncio.to_thread(waiting_in_workers, queues, wanted)
            # These first: a message that a worker puts back meanwhile is in a queue, and is met there.
            for queue in sorted({message.queue for message in taken}):
                own = [message for message in taken if message.queue == queue]
                done += await self._cancel_messages(queue, own, "cancel")
            for queue in names:
                done += await self._cancel_waiting(queue, wanted)
        return done

    async def retry(self, ids: Sequence[UUID], *, again: bool = False) -> Retried:
        """Send failed or cancelled jobs again, each under a new id; see `storage.job_retries.retry`."""

        async def step(connection: Connection) -> Retried:
            async with connection.transaction():
                done = await job_retries.retry(connection, ids, again=again)
                about = {"jobs": {str(old): str(new.correlation_id) for old, new in done.sent}}
                if done.sent:
                    await audit.record(connection, self._actor, "send again", about, len(done.sent))
            return done

        done = await self._run(step)
        await self._publish([contract for _, contract in done.sent])
        return done

    async def retry_matching(self, wanted: JobFilter, *, again: bool = False) -> tuple[int, dict[UUID, str]]:
        """Send the jobs that a filter lets through again, those that failed or were cancelled; `again` as in `retry`.

        Return how many were sent, and the reasons why others were not, of some hundred jobs at most.
        """
        wanted = _until_now(wanted)
        refused: dict[UUID, str] = {}

        async def page(found: list[JobRow]) -> int:
            done = await self.retry([job.correlation_id for job in found], again=again)
            if len(refused) < STEP:
                refused.update(done.refused)
            return len(done.sent)

        sent = 0
        for state in wanted.among(*RETRIABLE):
            sent += await self._each_page(replace(wanted, states=(state,)), page)
        return sent, refused

    async def _cancel_page(self, page: Sequence[JobRow]) -> int:
        return len((await self._cancel(dict.fromkeys(job.correlation_id for job in page), "cancel"))[0])

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

    async def _each_page(self, wanted: JobFilter, act: Callable[[list[JobRow]], Awaitable[int]]) -> int:
        """Act on each page of jobs, the oldest first; return the sum of what `act` returns."""
        total, after = 0, None
        while True:
            listing = partial(jobs.list_jobs, wanted=wanted, descending=False, after=after, limit=STEP)
            page = await self._run(listing)
            if page.jobs:
                total += await act(page.jobs)
            if page.next is None:
                return total
            after = page.next

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
            connect_timeout=self._settings.connect_timeout,
        ) as client:
            client.submit_many(contracts)


def _until_now(wanted: JobFilter) -> JobFilter:
    """Return the filter with an end: an action must not meet what it does itself."""
    return wanted.before(datetime.now(UTC))
