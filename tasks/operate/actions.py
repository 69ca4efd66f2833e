"""Base of the actions of an operator: servers, the operator's name, the audit, and durable cancelling."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from pattern_storage.config.settings import Settings
from pattern_storage.storage import audit, ledger
from pattern_storage.storage.delivery import Delivery, delivered
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks import redis_connections
from pattern_storage.tasks.client.result_document import result_key
from pattern_storage.tasks.client.status import marker
from pattern_storage.tasks.database import Database
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.operate.message_search import find_messages
from pattern_storage.tasks.operate.waiting_message import WaitingMessage
from pattern_storage.tasks.result_state_store import store
from pattern_storage.vocabulary import ErrorType, JobState

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
        for start in range(0, len(ids), STEP):
            page = ids[start : start + STEP]
            messages: Mapping[UUID, WaitingMessage] = {}
            with suppress(BrokerUnavailable):
                messages = await asyncio.to_thread(find_messages, self._settings, page)
            cancelled |= await self._run(partial(self._cancel, ids=page, action=action, messages=messages))
        return cancelled

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
        self,
        connection: Connection,
        ids: Sequence[UUID],
        action: str = "cancel",
        messages: Mapping[UUID, WaitingMessage] = MappingProxyType({}),
    ) -> set[UUID]:
        cancelled: set[UUID] = set()
        deliveries = _deliveries(messages)
        async with connection.transaction():
            for job in ids:
                message = messages.get(job)
                with delivered(deliveries):
                    result = await ledger.cancel(connection, job, message.contract if message else None)
                if result.metadata.get("error_type") == ErrorType.REVOKED:
                    cancelled.add(job)
            if cancelled:
                about = {"jobs": sorted(map(str, cancelled))}
                await audit.record(connection, self._actor, action, about, len(cancelled))
        await asyncio.to_thread(self._mark_revoked, cancelled)
        return cancelled

    async def _cancel_messages(self, queue: str, messages: Sequence[WaitingMessage], action: str) -> int:
        asked = {message.correlation_id: message for message in messages if message.correlation_id is not None}
        contracts = {job: message.contract for job, message in asked.items()}

        async def step(connection: Connection) -> set[UUID]:
            async with connection.transaction():
                with delivered(_deliveries(asked)):
                    cancelled = await ledger.cancel_all(connection, contracts)
                about = {"queue": queue, "jobs": sorted(map(str, cancelled))}
                # A purge removes messages that are none of our jobs as well.
                count = len(cancelled) if action == "cancel" else len(messages)
                await audit.record(connection, self._actor, action, about, count)
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


def _deliveries(messages: Mapping[UUID, WaitingMessage]) -> dict[UUID, Delivery]:
    return {
        job: Delivery(message.queue, sent_at=message.sent_at.timestamp() if message.sent_at else None)
        for job, message in messages.items()
    }
