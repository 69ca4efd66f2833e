"""Search for the messages of jobs in all queues of a Redis broker, by their ids or by a filter."""

import re
import time
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from uuid import UUID

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.tasks.operate.queues import CHUNK, RedisQueues, redis_queues
from pattern_storage.tasks.operate.waiting_message import WaitingMessage, read_message
from pattern_storage.tasks.queue_names import LONG, SHORT
from pattern_storage.vocabulary import ListedState

#: Seconds that a search may take; 100,000 messages that wait are read in less.
SEARCH_SECONDS = 3.0
#: Candidates for the id in a message's headers.
IDS = re.compile(r'"id": ?"([0-9a-f-]{36})"')


def find_messages(
    settings: Settings, ids: Collection[UUID], *, seconds: float = SEARCH_SECONDS
) -> dict[UUID, WaitingMessage]:
    """Return the messages of these jobs, those in flight as well, as far as they are found in time; none on RabbitMQ.

    Raises BrokerUnavailable.
    """
    found: dict[UUID, WaitingMessage] = {}
    if not ids or not settings.broker_kind.is_redis:
        return found
    deadline = time.monotonic() + seconds
    missing = {str(job): job for job in ids}
    with redis_queues(settings) as queues:
        for message in queues.in_flight():
            if message.id in missing:
                found[missing.pop(message.id)] = message
        for queue in _all_queues(queues, missing, deadline):
            for raw in queues.elements(queue):
                if not missing or time.monotonic() > deadline:
                    return found
                text = raw if isinstance(raw, str) else raw.decode(errors="replace")
                # Nearly all are other jobs, and are not parsed.
                if missing.keys() & IDS.findall(text) and (message := read_message(raw, queue)).id in missing:
                    found[missing.pop(message.id)] = message
    return found


def _all_queues(queues: RedisQueues, missing: Collection[str], deadline: float) -> Iterator[str]:
    """Yield the names of all queues, ours first: nearly always the others need not be found.

    A page of Flower has no time for a walk over all keys.
    """
    yield from QUEUES
    left = deadline - time.monotonic()
    if missing and left > 0:
        yield from queues.names(seconds=LONG if left > LONG else SHORT)[len(QUEUES) :]


def searched_queues(queues: RedisQueues, wanted: JobFilter) -> tuple[str, ...]:
    """Return the names of the queues in which messages that the filter lets through may wait."""
    return queues.names(seconds=LONG) if wanted.queue is None else (wanted.queue,)


def waiting_in_workers(queues: RedisQueues, wanted: JobFilter) -> list[WaitingMessage]:
    """Return messages that wait in a worker, mostly of delayed jobs: they are in no list of a queue any more."""
    wanted = replace(wanted, states=(ListedState.QUEUED,))
    return [message for message in queues.in_flight() if message.matches(wanted)]


def list_waiting(settings: Settings, wanted: JobFilter, limit: int) -> list[WaitingMessage]:
    """Return up to `limit` messages that wait in any queue and that the filter lets through; none on RabbitMQ."""
    with closing(_waiting(settings, wanted)) as found:
        return list(islice(found, limit))


def count_waiting(settings: Settings, wanted: JobFilter) -> int:
    """Return how many messages wait that the filter lets through, with a look at each; 0 on RabbitMQ."""
    return sum(1 for _ in _waiting(settings, wanted)) if wanted.among(ListedState.QUEUED) else 0


def _waiting(settings: Settings, wanted: JobFilter) -> Generator[WaitingMessage]:
    if not settings.broker_kind.is_redis:
        return
    with redis_queues(settings) as queues:
        yield from waiting_in_workers(queues, wanted)
        for queue in searched_queues(queues, wanted):
            place: int | None = 0
            while place is not None:
                page = queues.waiting(queue, wanted, offset=place, limit=CHUNK)
                yield from page.messages
                place = page.next
