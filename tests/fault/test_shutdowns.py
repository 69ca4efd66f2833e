"""Warm, soft and cold shutdown while a group runs: nothing is lost, done twice, or an attempt that did not begin."""

import pytest
import redis

from tests.fix_faults import GROUPS, SAFE, SOON, Launch, start_again
from tests.fix_invariant import messages
from tests.fix_load import Load
from tests.fix_pool_claims import SLOW, sleeps
from tests.fix_process import wait_until

SIZE = 6
#: No job passes a limit, and no message comes back because its time is over.
PATIENT = SOON | SAFE | {
    "PATTERN_STORAGE_GROUP_SIZE": str(SIZE),
    "PATTERN_STORAGE_TASK_SOFT_TIME_LIMIT": "30",
    "PATTERN_STORAGE_TASK_TIME_LIMIT": "40",
    "PATTERN_STORAGE_VISIBILITY_TIMEOUT": "60",
}  # fmt: skip
WAYS = {
    "warm": {},
    "soft": {"REMAP_SIGTERM": "SIGQUIT", "PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "15"},
    "cold": {"REMAP_SIGTERM": "SIGQUIT", "PATTERN_STORAGE_SOFT_SHUTDOWN_TIMEOUT": "0"},
}


@pytest.mark.parametrize("way", WAYS)
def test_shutdown(launch: Launch, load: Load, way: str) -> None:
    """What has begun ends, unless the worker may not wait; all else is in the queue at once."""
    load.watch_attempts()
    with load.connect() as connection:
        connection.execute(SLOW)
    slow = load.insert("slow")
    slow.data["usage_count"] = 3
    jobs = [slow, *load.inserts(2 * SIZE - 1)]
    load.submit(jobs)
    worker = launch(load.database_url, load.redis_url, concurrency=1, env=PATIENT | WAYS[way])
    begun = jobs[: SIZE if GROUPS else 1]
    wait_until(lambda: sleeps(load.database_url), "the first ones run")
    code = worker.stop()
    ended = load.count("job_ledger")
    print(way, code, ended)
    with redis.Redis.from_url(load.redis_url) as store:
        left = messages(store)
    assert ended + left["storage"] == len(jobs)
    assert sum(left.values()) == left["storage"]
    if way == "cold":
        assert ended == 0
    else:
        assert ended >= len(begun)
    start_again(worker)
    assert load.settle(30.0).counts == {"done": len(jobs)}
    print(load.counted())
    assert load.counted().keys() <= {job.correlation_id for job in (begun if way == "cold" else ())}
