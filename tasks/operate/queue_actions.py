"""Actions on queues: pause, resume and empty one."""

import asyncio
from collections.abc import Callable
from functools import partial

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage import pauses
from pattern_storage.storage.errors import FilterInvalid
from pattern_storage.storage.explanation import did_you_mean, printable
from pattern_storage.storage.job_options import QUEUE_NAME
from pattern_storage.storage.pauses import Pausable
from pattern_storage.tasks.operate.actions import STEP, Actions
from pattern_storage.tasks.operate.queues import redis_queues


class QueueActions(Actions):
    """Actions on queues."""

    async def pause_queue(self, name: str) -> bool:
        """Have no worker take anything from a queue until it is resumed; return whether it was not paused.

        Raises FilterInvalid for a name that no queue has.
        """
        await self._check(name)
        pause = partial(pauses.pause, kind=Pausable.QUEUE, name=name, actor=self._actor)
        return await self._change("pause queue", name, pause)

    async def resume_queue(self, name: str) -> bool:
        """Let workers take from a queue again; return whether it was paused. Raises FilterInvalid as `pause_queue`."""
        # A queue that was paused may have no job and no worker any more.
        resume = partial(pauses.resume, kind=Pausable.QUEUE, name=name)
        resumed = await self._change("resume queue", name, resume)
        if not resumed:
            await self._check(name)
        return resumed

    async def purge_queue(self, name: str, report: Callable[[int], None] | None = None) -> int:
        """Empty a queue: its jobs are cancelled durably, and never come back; return how many messages there were.

        `report` is called with the number so far. Raises QueueUnreadable for RabbitMQ, and BrokerUnavailable.
        """
        await self._check(name)
        purged = 0
        while True:
            with redis_queues(self._settings) as queues:
                page = await asyncio.to_thread(queues.waiting, name, limit=STEP)
                if not page.messages:
                    return purged
                # Before they are removed: if PostgreSQL does not answer, they wait as before.
                await self._cancel_messages(name, page.messages, "purge queue")
                messages = await asyncio.to_thread(queues.take, name, len(page.messages))
            # Workers may have taken some of these meanwhile, and others have come to the head of the queue.
            known = {message.id for message in page.messages}
            if others := [message for message in messages if message.id not in known]:
                await self._cancel_messages(name, others, "purge queue")
            purged += len(messages)
            if report is not None:
                report(purged)

    async def _check(self, name: str) -> None:
        await asyncio.to_thread(check_queue, self._settings, name)


def check_queue(settings: Settings, name: str) -> str:
    """Return the name of a queue. Raises FilterInvalid if there is none, as far as the broker knows."""
    if name in QUEUES:
        return name
    if settings.broker_kind.is_redis and QUEUE_NAME.fullmatch(name):
        with redis_queues(settings) as queues:
            if queues.knows(name):
                return name
    raise FilterInvalid(f"there is no queue {printable(name)[:60]!r}; {did_you_mean(printable(name), QUEUES)}")
