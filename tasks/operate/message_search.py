"""Search for the messages of jobs by their ids, in all queues of a Redis broker."""

import re
import time
from collections.abc import Collection
from uuid import UUID

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import Settings
from pattern_storage.tasks.operate.queues import redis_queues
from pattern_storage.tasks.operate.waiting_message import WaitingMessage, read_message

#: Seconds that a search may take; 100,000 messages that wait are read in less.
SEARCH_SECONDS = 3.0
#: What may be the id in a message's headers.
IDS = re.compile(r'"id": ?"([0-9a-f-]{36})"')


def find_messages(settings: Settings, ids: Collection[UUID]) -> dict[UUID, WaitingMessage]:
    """Return the messages of these jobs, those in flight as well, as far as they are found in time; none on RabbitMQ.

    Raises BrokerUnavailable.
    """
    found: dict[UUID, WaitingMessage] = {}
    if not ids or not settings.broker_kind.is_redis:
        return found
    deadline = time.monotonic() + SEARCH_SECONDS
    missing = {str(job): job for job in ids}
    with redis_queues(settings) as queues:
        for message in queues.in_flight():
            if message.id in missing:
                found[missing.pop(message.id)] = message
        for queue in QUEUES:
            for raw in queues.elements(queue):
                if not missing or time.monotonic() > deadline:
                    return found
                text = raw if isinstance(raw, str) else raw.decode(errors="replace")
                # Nearly all are other jobs, and are not parsed.
                if missing.keys() & IDS.findall(text) and (message := read_message(raw, queue)).id in missing:
                    found[missing.pop(message.id)] = message
    return found
