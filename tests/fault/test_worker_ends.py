"""A worker that ends while it is busy: what its processes have been given is done, and acknowledged."""

import redis

from tests.fix_faults import SAFE, SOON, Launch
from tests.fix_load import Load
from tests.fix_pool_claims import SLOW, sleeps
from tests.fix_process import wait_until


def test_a_group_that_waits_in_a_pipe(launch: Launch, load: Load) -> None:
    """Its process executes it, whoever ends the worker. If nobody noted that, it would be executed again elsewhere."""
    with load.connect() as connection:
        connection.execute(SLOW)
    jobs = [load.insert(f"slow {number}") for number in range(12)]
    for job in jobs:
        job.data["usage_count"] = 1
    load.submit(jobs)
    few = {"PATTERN_STORAGE_GROUP_SIZE": "2"}
    worker = launch(load.database_url, load.redis_url, concurrency=1, env=SOON | SAFE | few)
    wait_until(lambda: sleeps(load.database_url), "the first group is running")
    assert worker.stop() == 0
    done = load.count("job_ledger")
    with redis.Redis.from_url(load.redis_url) as store:
        waiting = store.lrange("storage", 0, -1)
        assert store.zcard("pattern-storage.unacked_index") == 0
    assert done + len(waiting) == len(jobs)
    assert 4 <= done < len(jobs)
    assert not any(b'"redelivered": true' in message for message in waiting)
    launch(load.database_url, load.redis_url, concurrency=1, env=SOON | SAFE | few)
    assert load.settle().counts == {"done": len(jobs)}
    assert load.count("job_attempts") == 0
