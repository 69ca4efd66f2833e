"""Bindings that processes leave in Redis when they are killed: kombu keeps them as long as any other is renewed.

Each queue of events, of remote control and of answers to it has a member in the set of its exchange, which is removed
when its process ends in an orderly way. Events and commands are broadcast without a look at their sets, but each answer
of a worker reads all of its set: with 10,000 members left there a ping took 13.6 ms in place of 1.3.
"""

from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery.worker.consumer import Tasks

from pattern_storage.storage.logs import get_logger

logger = get_logger(__name__)

#: Members that a set may have: far more than there are queues at a time.
LIMIT = 1_000


class StaleBindings(bootsteps.StartStopStep):
    """Bootstep of a worker's consumer that empties sets which have grown too large.

    Which members are stale cannot be told, since an empty queue is no key. Who asks at that moment misses answers,
    once; with the next question the queue is bound again.
    """

    requires = (Tasks,)

    def start(self, c: Any) -> None:
        """Look at each set. Nothing depends on it: a server that refuses it keeps the members."""
        with suppress(Exception):
            channel = c.task_consumer.channel
            if not hasattr(channel, "keyprefix_queue"):
                return
            control = c.app.conf.control_exchange
            for exchange in (c.app.conf.event_exchange, f"{control}.pidbox", f"reply.{control}.pidbox"):
                if (found := len(channel.get_table(exchange))) > LIMIT:
                    with channel.conn_or_acquire() as client:
                        client.delete(channel.keyprefix_queue % exchange)
                    logger.info("removed %d bindings of %s that processes left when they were killed", found, exchange)
