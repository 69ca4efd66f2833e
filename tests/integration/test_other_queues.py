"""Queues of other names than ours: they are found, and operators do to them what they do to ours."""

import json
from contextlib import closing
from typing import Any

import pytest
import redis

from pattern_storage.config.settings import Settings
from pattern_storage.storage.errors import FilterInvalid
from pattern_storage.storage.job_details import find_job
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.operate.message_search import find_messages, list_waiting
from pattern_storage.tasks.operate.operator import Operator
from pattern_storage.tasks.operate.queues import depths
from pattern_storage.tasks.queue_names import LONG, STEP, KeyWalk
from pattern_storage.tasks.sender import create_app
from pattern_storage.vocabulary import ListedState
from tests.fix_storage import Connection, make_pattern


async def test_a_queue_of_another_name(
    settings: Settings, operator: Operator, client: PatternStorageClient, store: "redis.Redis"
) -> None:
    with pytest.raises(FilterInvalid, match="there is no queue 'fast'"):
        await operator.pause_queue("fast")
    jobs_sent = [client.insert(make_pattern(pattern_name=f"f{n}"), queue="fast") for n in range(3)]
    assert await operator.pause_queue("fast")
    assert [(depth.name, depth.waiting) for depth in depths(settings, {"fast", "batch"})][3:] == [("fast", 3)]
    waiting = JobFilter(states=(ListedState.QUEUED,), queue="fast")
    assert [message.pattern_name for message in list_waiting(settings, waiting, 50)] == ["f0", "f1", "f2"]
    assert await operator.cancel_matching(JobFilter(queue="fast", pattern_name="f0")) == 1
    assert await operator.purge_queue("fast") == 3
    assert [job.status() for job in jobs_sent] == ["REVOKED"] * 3
    # Nothing is left of it but the pause.
    assert await operator.resume_queue("fast")
    with pytest.raises(FilterInvalid):
        await operator.resume_queue("fast")
    # What workers have claimed is no queue, nor is a key of another type.
    store.lpush("storage.claimed", "x")
    store.set("text", "x")
    for name in ("storage.claimed", "text", "celery-task-meta-*", "a b"):
        with pytest.raises(FilterInvalid):
            await operator.purge_queue(name)


async def test_queues_of_other_names_are_found(
    settings: Settings, operator: Operator, client: PatternStorageClient, store: "redis.Redis", connection: Connection
) -> None:
    """Of everything under Redis's keys, those lists that have jobs of ours; nobody has to name them."""
    client.insert(make_pattern())
    message: Any = store.lindex("storage", -1)
    foreign = json.loads(message)
    foreign["headers"]["task"] = "theirs.task"
    store.lpush("celery", json.dumps(foreign))
    store.lpush("a list", message)
    store.lpush("words", "one", "two")
    store.lpush("storage.claimed", message)
    store.set("slow", "no list")
    slow = [client.insert(make_pattern(pattern_name=f"s{n}"), queue="slow.er", priority="low") for n in range(3)]
    found = {depth.name: depth.waiting for depth in depths(settings, {"slow"}, seconds=LONG)}
    assert found == {"storage": 1, "batch": 0, "imports": 0, "slow.er": 3}
    ids = [job.correlation_id for job in slow]
    assert {one.queue for one in find_messages(settings, ids).values()} == {"slow.er"}
    assert [one.pattern_name for one in list_waiting(settings, JobFilter(pattern_name="s1"), 50)] == ["s1"]
    assert await operator.cancel(ids[:1]) == {ids[0]}
    assert await operator.cancel_matching(JobFilter(pattern_name="s1")) == 1
    cancelled = await find_job(connection, ids[1])
    assert cancelled is not None
    assert (cancelled.job.queue, cancelled.can_be_retried) == ("slow.er", True)
    # One whose jobs are all with workers is none the less.
    taken = [json.loads(message), "", "slow.er"]
    store.hset("pattern-storage.unacked", "tag", json.dumps(taken))
    store.delete("slow.er\x06\x166")
    assert {depth.name: depth.unacked for depth in depths(settings)}["slow.er"] == 1


def test_the_walk_over_the_keys_goes_on_where_it_ended(client: PatternStorageClient, store: "redis.Redis") -> None:
    client.insert(make_pattern(), queue="far")
    store.mset({f"key {n}": "" for n in range(5 * STEP)})
    walk, calls = KeyWalk(""), 1
    while "far" not in walk.names(store, 0.0):
        calls += 1
        assert calls <= 20
    # It is known for a while, also when nothing waits there.
    store.flushdb()
    assert walk.names(store, 1.0) == {"far"}


async def test_a_queue_that_a_worker_serves_is_known(settings: Settings, operator: Operator) -> None:
    app = create_app(settings)
    with closing(app), app.connection_for_write() as connection:
        # As a worker does that is started with `-Q fast`.
        app.amqp.queues.select(["fast"])
        app.amqp.queues["fast"](connection.channel()).declare()
    assert await operator.pause_queue("fast")
