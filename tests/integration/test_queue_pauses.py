"""A paused queue: no worker takes from it, from its start on and at any time later, until it is resumed."""

import redis

from pattern_storage.storage import pauses
from pattern_storage.storage.job_details import find_job
from pattern_storage.storage.pauses import Pausable
from pattern_storage.tasks.client import PatternStorageClient
from tests.fix_celery import StartWorker
from tests.fix_process import DEADLINE, wait_until
from tests.fix_storage import Connection, make_pattern


async def test_workers_obey_a_pause_that_was_there_before_them_and_one_that_comes(
    start_worker: StartWorker,
    client: PatternStorageClient,
    connection: Connection,
    redis_url: str,
) -> None:
    await pauses.pause(connection, Pausable.QUEUE, "storage", actor="ann")
    worker = start_worker()
    first, batch = client.insert(make_pattern()), client.batch_insert([make_pattern()])
    assert batch.result(timeout=DEADLINE).success
    with redis.Redis.from_url(redis_url) as server:
        assert server.llen("storage") == 1
        await pauses.resume(connection, Pausable.QUEUE, "storage")
        assert first.result(timeout=DEADLINE).success
        await pauses.pause(connection, Pausable.QUEUE, "storage", actor="ann")
        wait_until(lambda: worker.logs().count("queue storage is paused") == 2, "it is paused again")
        second = client.insert(make_pattern())
        assert client.batch_insert([make_pattern()]).result(timeout=DEADLINE).success
        assert server.llen("storage") == 1
        await pauses.resume(connection, Pausable.QUEUE, "storage")
        assert second.result(timeout=DEADLINE).success
    # What operators list it by came along with the message.
    for job, queue in ((first, "storage"), (batch, "batch")):
        found = await find_job(connection, job.correlation_id)
        assert found is not None
        assert (found.job.queue, found.job.worker, found.job.state) == (queue, worker.hostname(), "SUCCESS")
        assert [event.what for event in found.events] == ["submitted", "claimed", "started", "committed"]
