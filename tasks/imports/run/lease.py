"""A long import keeps its message: Redis would deliver it again after the visibility timeout, in mid-run.

kombu's book says when each message was delivered, and a sweep puts back what is older than the timeout. An import
that lives brings its entry up to date, so that the timeout may stay short for everything else and still sees to an
import whose worker was killed. Other brokers have no such timeout, or one of their own.
"""

import time
from typing import Any

from celery import Celery


def renew(app: Celery, delivery_tag: str | None) -> None:
    """Tell the broker that the job with this delivery tag is being worked on. Raises what the broker raises."""
    if delivery_tag is None:
        return
    pool: Any = app.pool  # celery-types takes it for a pool of producers
    with pool.acquire(block=True) as connection:
        channel: Any = connection.default_channel
        if hasattr(channel, "unacked_index_key"):
            # Only if it is there: one that was acknowledged must not come back.
            channel.client.zadd(channel.unacked_index_key, {delivery_tag: time.time()}, xx=True)
