"""Events of a real worker: the last ones are not lost with it, and many leave in few publications."""

from signal import SIGTERM

import pytest
import redis

from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import BLOCKED, StartWorker, locked_patterns, worker_connections
from tests.fix_events import listening
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import make_pattern


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_ends_sends_its_last_events(
    pool: str,
    start_worker: StartWorker,
    client: PatternStorageClient,
    database_url: str,
    redis_url: str,
) -> None:
    worker = start_worker(pool=pool, concurrency=1)
    with listening(redis_url) as event:
        done = client.insert(make_pattern())
        assert done.result(DEADLINE).success
        with locked_patterns(database_url):
            running = client.insert(make_pattern())
            wait_until(lambda: worker_connections(database_url, BLOCKED), "the job waits for the lock")
            # A warm shutdown: the consumer stops now, and the pool when the job is done.
            worker.container.group.process.send_signal(SIGTERM)
            worker.wait_for_log("Warm shutdown")
        assert worker.stop() == 0
        for job in (done, running):
            assert job.result(DEADLINE).success
            event("task-succeeded", job.correlation_id)


def test_many_events_leave_in_few_publications(
    start_worker: StartWorker, client: PatternStorageClient, redis_url: str
) -> None:
    worker = start_worker(options=("--without-mingle", "--without-gossip", "--without-heartbeat"))
    jobs = 100
    with listening(redis_url) as event, redis.Redis.from_url(redis_url) as server:
        before = server.info("commandstats")["cmdstat_publish"]["calls"]
        submitted = [client.insert(make_pattern()) for _ in range(jobs)]
        for job in submitted:
            assert job.result(DEADLINE).success
            event("task-succeeded", job.correlation_id)
        published = server.info("commandstats")["cmdstat_publish"]["calls"] - before
    # Each job has three events of the worker's and one of the client's, whose publications are counted apart.
    assert published - 2 * jobs < jobs, published
    assert worker.stop() == 0
