"""Base of the actions of an operator: servers, the operator's name, the audit, and durable cancelling."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from pattern_storage.config.settings import Settings
from pattern_storage.storage import audit, ledger
from pattern_storage.storage.delivery import Delivery, delivered
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.status import marker, parse_status
from pattern_storage.tasks.database import Database
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.operate.message_search import find_messages
from pattern_storage.tasks.operate.waiting_message import WaitingMessage
from pattern_storage.tasks.result_state_store import store
from pattern_storage.vocabulary import JobState

#: Jobs that are changed in one transaction.
STEP = 200


class Actions:
    """Actions in the name of an operator.

    Args:
        settings: PostgreSQL, queue and results that are acted on.
        actor: the operator's name, for the audit.
    """

    def __init__(self, settings: Settings, actor: str) -> None:
        self._settings, self._actor = settings, actor
        self._run = Database(settings).run

    async def record(self, action: str, about: Mapping[str, Any], count: int) -> None:
        """Write an action to the audit that a caller has done itself, such as a replay of dead letters."""
        await self._run(lambda connection: audit.record(connection, self._actor, action, about, count))

    async def cancel(self, ids: Sequence[UUID], *, action: str = "cancel") -> set[UUID]:
        """Cancel jobs, durably; return those that are cancelled now. The others had ended.

        The contract of a message in the queue is kept, so that the job can be sent again. Raises StorageError if
        PostgreSQL does not answer; Redis need not.
        """
        cancelled: set[UUID] = set()
        # Once for all: each search reads every queue.
        messages = await self._messages(ids)
        for start in range(0, len(ids), STEP):
            page = ids[start : start + STEP]
            cancelled |= (await self._cancel({job: messages.get(job) for job in page}, action))[1]
        return cancelled

    async def cancel_named(self, ids: Sequence[UUID]) -> tuple[set[UUID], set[UUID]]:
        """Cancel jobs as `cancel` does; return those that are cancelled now, and ids that are blocked without a job.

        Nothing knows a job under a blocked id. One that comes later, whoever sends it, never commits.
        """
        has_state = await asyncio.to_thread(self._jobs_with_state, ids)
        cancelled = await self.cancel(ids)
        blocked = await self._run(lambda connection: ledger.blocked(connection, ids)) - has_state
        return cancelled - blocked, blocked

    async def rehearse_cancel(self, ids: Sequence[UUID]) -> tuple[set[UUID], set[UUID]]:
        """Return what `cancel_named` would, as far as can be told now. This only reads."""
        has_state = await asyncio.to_thread(self._jobs_with_state, ids)
        messages = await self._messages(ids)
        ended, unknown = await self._run(lambda connection: ledger.cancellable(connection, ids))
        blocked = unknown - has_state - messages.keys()
        return set(ids) - ended - blocked, blocked

    async def _messages(self, ids: Sequence[UUID]) -> Mapping[UUID, WaitingMessage]:
        """Return the messages of these jobs, as far as they are found; none if Redis does not answer."""
        with suppress(BrokerUnavailable):
            return await asyncio.to_thread(find_messages, self._settings, ids)
        return {}

    async def _change(self, action: str, name: str, change: Callable[[Connection], Awaitable[bool]]) -> bool:
        """Change a queue or an import, with an audit entry; return whether anything has changed."""

        async def step(connection: Connection) -> bool:
            async with connection.transaction():
                changed = await change(connection)
                if changed:
                    await audit.record(connection, self._actor, action, {"name": name}, 1)
            return changed

        return await self._run(step)

    async def _cancel(
        self, jobs: Mapping[UUID, WaitingMessage | None], action: str, *, removed: int = 0, **about: str
    ) -> tuple[set[UUID], set[UUID]]:
        """Cancel jobs in one transaction; return those that this has cancelled, and all of them that are cancelled.

        Args:
            jobs: the jobs, each with its message where that is known.
            action: for the audit, which says how many jobs this has cancelled.
            removed: number of messages that were removed from a queue; the audit says this number instead.
            about: further entries of the audit.
        """
        contracts = {job: message.contract if message else None for job, message in jobs.items()}
        deliveries = {
            job: Delivery(message.queue, sent_at=message.sent_at.timestamp() if message.sent_at else None)
            for job, message in jobs.items()
            if message
        }

        async def step(connection: Connection) -> tuple[set[UUID], set[UUID]]:
            async with connection.transaction():
                with delivered(deliveries):
                    new = await ledger.cancel_all(connection, contracts)
                if count := removed or len(new):
                    named = about | {"jobs": sorted(map(str, new))}
                    await audit.record(connection, self._actor, action, named, count)
                states = await ledger.states(connection, list(jobs))
            return new, {job for job, (state, _) in states.items() if state == JobState.REVOKED}

        new, cancelled = await self._run(step)
        await asyncio.to_thread(self._mark_revoked, cancelled)
        return new, cancelled

    async def _cancel_messages(self, queue: str, messages: Sequence[WaitingMessage], action: str) -> int:
        """Cancel the jobs of a queue's messages, which a purge has removed; return how many this has cancelled."""
        jobs = {message.correlation_id: message for message in messages if message.correlation_id is not None}
        # A purge removes messages that are none of our jobs as well.
        removed = 0 if action == "cancel" else len(messages)
        return len((await self._cancel(jobs, action, removed=removed, queue=queue))[0])

    def _jobs_with_state(self, ids: Sequence[UUID]) -> set[UUID]:
        """Return the jobs of which Redis has a state: a client's marker tells of a message that no search may find."""
        found: set[UUID] = set()
        with suppress(RedisError), redis_connections.connect(self._settings) as results:
            for start in range(0, len(ids), STEP):
                page = ids[start : start + STEP]
                documents = results.mget([result_key(job, self._settings.key_prefix) for job in page])
                # REVOKED is the state of an id that was blocked before as well.
                unknown = (JobState.UNKNOWN, JobState.REVOKED)
                found |= {
                    job for job, document in zip(page, documents, strict=True) if parse_status(document) not in unknown
                }
        return found

    def _mark_revoked(self, ids: set[UUID]) -> None:
        """Store REVOKED for those who wait for a result; the ledger has decided, so Redis may be down."""
        if not ids:
            return
        document, seconds = marker(JobState.REVOKED), self._settings.result_expires
        with suppress(RedisError), redis_connections.connect(self._settings) as results:
            keys = [result_key(job, self._settings.key_prefix) for job in ids]
            store(results, [(key, document, JobState.REVOKED, seconds) for key in keys])
