"""Lease renewal: a running import keeps its message from redelivery after the visibility timeout.

kombu's unacked index holds the delivery time of each message, and a sweep restores those older than the timeout. A
running import renews its entry, so that the timeout stays short for all other jobs, and still redelivers an import
whose worker was killed. Other brokers have no such timeout, or one of their own.
"""

import time
from typing import Any

from celery import Celery


def renew(app: Celery, delivery_tag: str | None) -> None:
    """Set the delivery time of the message with this tag to now. Raises the broker's errors."""
    if delivery_tag is None:
        return
    pool: Any = app.pool  # celery-types takes it for a pool of producers
    with pool.acquire(block=True) as connection:
        channel: Any = connection.default_channel
        if hasattr(channel, "unacked_index_key"):
            # Only an entry that exists: an acknowledged message must not come back.
            channel.client.zadd(channel.unacked_index_key, {delivery_tag: time.time()}, xx=True)
