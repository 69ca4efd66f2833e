"""Lease renewal: a worker that lives keeps the messages that it holds from redelivery.

kombu's index of unacked messages has the time when each was delivered, and a sweep puts back those that are older than
the visibility timeout. A worker sets that time to now again and again, so the timeout need not be longer than the
longest job, or than the delay of a job that a worker holds until it is due. RabbitMQ has no such timeout.

The event loop renews, so a worker whose loop hangs does not: its jobs are delivered to another worker too, and the
ledger decides which of the two has an effect. A thread renews where the loop stands still and all is well: beside the
solo pool, whose jobs hold it up, and in a worker that ends.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from celery import bootsteps, signals
from celery.concurrency import solo
from celery.utils.timer2 import Timer
from celery.worker import state
from celery.worker.consumer import Tasks
from redis import Redis
from redis.exceptions import ConnectionError, TimeoutError  # noqa: A004

from pattern_storage.config.settings import environment_settings
from pattern_storage.storage.logs import get_logger
from pattern_storage.tasks.transport.scripts import RENEW
from pattern_storage.tasks.worker.soft_shutdown import surround

logger = get_logger(__name__)

#: Renewals within a visibility timeout: some may fail, or come late, before any message is redelivered.
RENEWALS = 4
#: Messages that one call renews at most: Redis serves no other client meanwhile.
PAGE = 5_000


class LeaseRenewal(bootsteps.StartStopStep):
    """Bootstep of a worker's consumer, with Redis as broker."""

    requires = (Tasks,)

    def __init__(self, c: Any, **options: Any) -> None:
        super().__init__(c, **options)
        self._consumer, self._channel = c, None
        self._thread: Any = None
        self._repetition: Any = None
        signals.worker_shutting_down.connect(self._on_shutdown)
        surround(c.controller, self._on_shutdown)

    def start(self, c: Any) -> None:
        """Renew at once, since the connection may have been gone for long, and then repeatedly.

        There is no `stop`: the last jobs of a worker that ends may take long.
        """
        self._channel = c.task_consumer.channel
        renew(c, self._channel)
        self._repeat(in_thread=isinstance(c.pool, solo.TaskPool))

    def _on_shutdown(self, **_: Any) -> None:
        if self._channel is not None:
            self._repeat(in_thread=True)

    def _repeat(self, *, in_thread: bool) -> None:
        if self._repetition is not None:
            # Of gevent's timer a call that has been made cannot be cancelled, but its entry.
            getattr(self._repetition, "entry", self._repetition).cancel()
        if in_thread and self._thread is None:
            self._thread = Timer()
        seconds = environment_settings().visibility_timeout / RENEWALS
        timer = self._thread or self._consumer.timer
        self._repetition = timer.call_repeatedly(seconds, renew, (self._consumer, self._channel))


def renew(consumer: Any, channel: Any) -> None:
    """Renew all messages that the worker holds. An error is not raised: the next renewal comes soon."""
    prefix = channel.global_keyprefix
    try:
        # kombu's own client would prefix only the first key of a script.
        client = getattr(channel, "plain_client", None) or Redis(connection_pool=channel.pool)
        keys = [f"{prefix}{channel.unacked_key}", f"{prefix}{channel.unacked_index_key}"]
        tags = list(held_tags(consumer))
        for first in range(0, len(tags), PAGE):
            RENEW.run(client, keys, tags[first : first + PAGE])
    except (ConnectionError, TimeoutError, OSError) as error:
        # The event loop notices it as well, and says so.
        logger.debug("renewed no messages: %s", error)
    except Exception:
        logger.exception("cannot renew the messages that this worker holds; jobs that take long may be delivered again")


def held_tags(consumer: Any) -> Iterator[str]:
    """Yield the delivery tags of all jobs that the worker has, also those of earlier connections that still run."""
    # Not what the channel has delivered and does not know to be acknowledged: where an acknowledgement failed, a
    # message would never come back.
    worker: Any = state  # celery-types does not know those that wait for their time
    # Its exit code, which may be 0.
    ends = state.should_stop is not None and state.should_stop is not False
    for request in (*members(worker.reserved_requests), *members(worker.scheduled_requests)):
        # A worker that ends begins no other job: those go to other workers.
        if not ends or request in state.active_requests or getattr(request, "_apply_result", None):
            yield request.message.delivery_tag
    if ends:
        return
    # Those of a rate limit are in neither.
    for bucket in consumer.task_buckets.values():
        for request, _ in bucket.contents if bucket else ():
            yield request.message.delivery_tag


def members(requests: Iterable[Any]) -> list[Any]:
    """Return the requests of a set that other threads change."""
    while True:
        try:
            return list(requests)
        except RuntimeError:
            # It changed meanwhile, which takes far longer than to read it.
            continue
