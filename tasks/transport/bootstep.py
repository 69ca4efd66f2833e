"""The bootstep that has a Celery worker use the claiming transport."""

from typing import Any

from celery import bootsteps
from celery.concurrency.solo import TaskPool as SoloPool

from pattern_storage.config.celeryconfig import QUEUES
from pattern_storage.config.settings import environment_settings
from pattern_storage.tasks.transport.channel import Channel
from pattern_storage.tasks.transport.kombu_parts import transports

#: The queues of long jobs.
LONG_QUEUES = QUEUES[1:]
#: Messages in one claim at most, whatever the size of groups: Redis serves no other client meanwhile.
MAX_CLAIM = 128

#: Transports by URL scheme: kombu chooses by it where a URL names several servers.
TRANSPORTS = {
    "redis": "pattern_storage.tasks.transport.transport:Transport",
    "rediss": "pattern_storage.tasks.transport.transport:Transport",
    "sentinel": "pattern_storage.tasks.transport.transport:SentinelTransport",
}


def install() -> None:
    """Have kombu use the claiming transport in this process, for every URL of Redis."""
    transports.TRANSPORT_ALIASES.update(TRANSPORTS)
    for scheme in TRANSPORTS:
        # kombu has cached the class if it was asked for before, as by a worker's banner.
        transports._transport_cache.pop(scheme, None)


class ClaimingTransport(bootsteps.Step):
    """Installs the transport in a worker, with limits for its pool."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        install()
        Channel.claim_ahead = not issubclass(worker.pool_cls, SoloPool)
        settings = environment_settings()
        processes = getattr(worker, "max_concurrency", None) or worker.concurrency
        # One claim takes a whole group.
        Channel.claim_limit = max(Channel.claim_limit, min(settings.group_size, MAX_CLAIM))
        # The common prefetch limit is as wide as groups; long jobs are executed one by one and shared more fairly.
        Channel.queue_prefetch = dict.fromkeys(LONG_QUEUES, processes * settings.prefetch_multiplier)
