"""dramatiq: its Redis broker and result backend, default middleware."""

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from work import REDIS_URL, TIMEOUT, insert

broker = RedisBroker(url=REDIS_URL)
broker.add_middleware(Results(backend=RedisBackend(url=REDIS_URL), store_results=True))
dramatiq.set_broker(broker)
actor = dramatiq.actor(insert)


def enqueue(pattern: dict[str, Any]) -> dramatiq.Message:
    return actor.send(pattern)


def result(job: dramatiq.Message) -> dict[str, Any]:
    return job.get_result(block=True, timeout=TIMEOUT * 1000)
