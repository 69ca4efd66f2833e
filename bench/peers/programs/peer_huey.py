"""huey: worker processes on a blocking pop, results announced through a list instead of polled for."""

from typing import Any

from huey import RedisHuey
from huey.api import Result
from work import REDIS_URL, TIMEOUT, insert

huey = RedisHuey("bench", url=REDIS_URL, notify_result=True)
task = huey.task()(insert)


def enqueue(pattern: dict[str, Any]) -> Result:
    return task(pattern)


def result(job: Result) -> dict[str, Any]:
    return job.get(blocking=True, timeout=TIMEOUT)
