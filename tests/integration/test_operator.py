"""Actions of an operator on what waits in Redis and stands in PostgreSQL, and what the audit says. No worker."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis

from pattern_storage.config.settings import Settings, load_settings
from pattern_storage.storage import ModelResult, NodePatternStorageEffect, attempts, audit, jobs, ledger, outbox
from pattern_storage.storage.errors import FilterInvalid, ServerUnavailable
from pattern_storage.storage.job_details import find_job
from pattern_storage.storage.job_filter import JobFilter
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.errors import QueueUnreadable
from pattern_storage.tasks.operate.operator import Operator
from pattern_storage.tasks.operate.queues import depths, redis_queues
from pattern_storage.tasks.operate.waiting_message import read_message
from pattern_storage.vocabulary import ListedState
from tests.fix_storage import Connection, Pool, contract, count_waiting, make_pattern, until


def names(settings: Settings, queue: str = "storage", **given: str) -> list[str | None]:
    with redis_queues(settings) as queues:
        page = queues.waiting(queue, JobFilter.parse(given) if given else None)
    return [message.pattern_name for message in page.messages]


async def actions(connection: Connection) -> list[tuple[str, str, int]]:
    return [(entry.actor, entry.action, entry.count) for entry in await audit.entries(connection)]


def test_what_waits_is_listed_the_oldest_first(
    settings: Settings, client: PatternStorageClient, store: "redis.Redis"
) -> None:
    sent = [client.insert(make_pattern(pattern_name=f"n{n}")) for n in range(5)]
    client.batch_insert([make_pattern()])
    store.lpush("storage", "no message", json.dumps({"headers": {"id": 7, "sent_at": "x", "task": ["\x1b[2J"]}}))
    urgent = json.loads(store.lindex("storage", -1) or "")
    store.lpush("storage\x06\x163", json.dumps(urgent | {"headers": {"task": "other.task"}}))
    assert names(settings) == ["n0", "n1", "n2", "n3", "n4", None, None, "n0"]
    assert names(settings, pattern_name="n3") == ["n3"]
    assert names(settings, correlation_id=str(sent[1].correlation_id)) == ["n1"]
    assert names(settings, operation="batch_insert") == []
    with redis_queues(settings) as queues:
        first = queues.waiting("storage", limit=3)
        assert (len(first.messages), first.total, first.next) == (3, 8, 3)
        rest = queues.waiting("storage", offset=3, limit=50)
        assert (len(rest.messages), rest.next) == (5, None)
        odd = queues.waiting("storage", offset=6, limit=1).messages[0]
    assert (odd.correlation_id, odd.sent_at, odd.contract) == (None, None, None)
    assert "\x1b" not in odd.task
    by_name = {depth.name: depth for depth in depths(settings)}
    assert [(by_name[name].waiting, by_name[name].unacked) for name in ("storage", "batch", "imports")] == [
        (8, 0), (1, 0), (0, 0),
    ]  # fmt: skip
    assert by_name["storage"].oldest_at is not None
    assert by_name["imports"].oldest_at is None


def test_what_is_in_flight_is_listed_with_its_state(
    settings: Settings, client: PatternStorageClient, store: "redis.Redis"
) -> None:
    for state in ("STARTED", "RETRY"):
        job = client.insert(make_pattern(pattern_name=state))
        message = json.loads(store.rpop("storage") or "")  # type: ignore[arg-type]
        store.hset("pattern-storage.unacked", state, json.dumps([message, "", "storage"]))
        store.set(f"celery-task-meta-{job.correlation_id}", json.dumps({"status": state, "result": None}))
    store.hset("pattern-storage.unacked", mapping={"odd": "7", "deep": "[" * 5_000})
    with redis_queues(settings) as queues:
        found = {message.pattern_name: message.state for message in queues.in_flight()}
    assert found == {"STARTED": "STARTED", "RETRY": "RETRY"}
    assert {depth.name: depth.unacked for depth in depths(settings)}["storage"] == 2


async def test_cancelling_is_durable_wherever_a_job_is(
    settings: Settings, operator: Operator, client: PatternStorageClient, node: NodePatternStorageEffect,
    connection: Connection,
) -> None:  # fmt: skip
    waiting = [client.insert(make_pattern(pattern_name=name)) for name in ("a", "b", "a")]
    written, retried, done = (contract("insert", data=make_pattern(pattern_name="a")) for _ in range(3))
    async with connection.transaction():
        await outbox.add(connection, written)
    failure = ModelResult.failure("gone", "connection_lost", correlation_id=uuid4(), operation="insert")
    await attempts.note_failure(connection, retried, failure)
    await node.execute_once(done)
    assert await operator.cancel_matching(JobFilter.parse({"pattern_name": "a"})) == 4
    assert [job.status() for job in waiting] == ["REVOKED", "QUEUED", "REVOKED"]
    cancelled = await jobs.list_jobs(connection, JobFilter(states=(ListedState.REVOKED,)))
    assert {job.correlation_id for job in cancelled.jobs} == {
        waiting[0].correlation_id, waiting[2].correlation_id, written.correlation_id, retried.correlation_id,
    }  # fmt: skip
    assert {(job.operation, job.pattern_name) for job in cancelled.jobs} == {("insert", "a")}
    assert await operator.cancel([waiting[1].correlation_id, done.correlation_id]) == {waiting[1].correlation_id}
    by_id = await find_job(connection, waiting[1].correlation_id)
    assert by_id is not None
    assert (by_id.job.operation, by_id.job.pattern_name, by_id.job.queue) == ("insert", "b", "storage")
    assert {entry[:2] for entry in await actions(connection)} == {("ann", "cancel")}
    assert sum(count for _, _, count in await actions(connection)) == 5
    # What is cancelled before it began can be sent again: what it asked for is known.
    again = JobFilter.parse({"states": "REVOKED", "pattern_name": "a"})
    sent, refused = await operator.retry_matching(again)
    assert (sent, list(refused)) == (3, [retried.correlation_id])
    assert names(settings)[3:] == ["a", "a", "a"]
    sent, refused = await operator.retry_matching(again)
    assert (sent, len(refused)) == (0, 4)
    # So is what was cancelled by its id.
    ((_, new),) = (await operator.retry([waiting[1].correlation_id])).sent
    assert new.data["pattern_name"] == "b"


async def test_two_operators_cancel_the_same_jobs_in_different_order(
    settings: Settings, operator: Operator, connection: Connection, pool: Pool
) -> None:
    """Each waits for what the other has cancelled, and neither for ever."""
    first, between, last = ids = [uuid4() for _ in range(3)]
    async with pool.connection() as third:
        async with third.transaction(force_rollback=True):
            await ledger.cancel(third, between)
            both = [
                asyncio.create_task(Operator(settings, actor).cancel(jobs))
                for actor, jobs in (("ann", ids), ("bob", [last, between, first]))
            ]

            async def both_wait() -> bool:
                return await count_waiting(connection) == 2

            await until(both_wait)
        assert await asyncio.gather(*both) == [set(ids), set(ids)]
    # The audit has each job once, by the operator who was first. To cancel again changes nothing.
    assert await operator.cancel(ids) == set(ids)
    assert [count for _, _, count in await actions(connection)] == [3]


async def test_a_queue_is_emptied_for_good(
    operator: Operator, client: PatternStorageClient, connection: Connection, store: "redis.Redis"
) -> None:
    sent = [client.insert(make_pattern()) for _ in range(3)]
    store.lpush("storage", "no message")
    seen: list[int] = []
    assert await operator.purge_queue("storage", seen.append) == 4
    assert seen == [4]
    assert store.llen("storage") == 0
    assert {job.status() for job in sent} == {"REVOKED"}
    assert (await ledger.state(connection, sent[0].correlation_id))[0] == "REVOKED"
    assert await actions(connection) == [("ann", "purge queue", 4)]


async def test_a_queue_is_not_emptied_while_its_jobs_cannot_be_cancelled(
    redis_url: str, client: PatternStorageClient, store: "redis.Redis"
) -> None:
    job = client.insert(make_pattern())
    away = load_settings(database_url="postgresql://127.0.0.1:1/x", redis_url=redis_url)
    with pytest.raises(ServerUnavailable):
        await Operator(away, "ann").purge_queue("storage")
    assert (store.llen("storage"), job.status()) == (1, "QUEUED")


async def test_pauses_are_in_the_audit_and_only_of_queues_that_are(operator: Operator, connection: Connection) -> None:
    assert await operator.pause_queue("batch")
    assert not await operator.pause_queue("batch")
    assert await operator.resume_queue("batch")
    assert await operator.pause_import("nightly")
    with pytest.raises(FilterInvalid, match="there is no queue 'bathc'; did you mean 'batch'"):
        await operator.pause_queue("bathc")
    assert [action for _, action, _ in await actions(connection)] == ["pause import", "resume queue", "pause queue"]


def test_rabbitmq_shows_no_messages(settings: Settings) -> None:
    on_rabbitmq = settings.model_copy(update={"broker_url": "amqp://localhost"})
    with pytest.raises(QueueUnreadable, match="RabbitMQ does not show"), redis_queues(on_rabbitmq):
        pass


HOSTILE: list[Any] = [
    "", "{}", "[]", "null", '"text"', "{" * 5000, "\x00", json.dumps({"headers": []}),
    json.dumps({"headers": {"id": {}, "task": 7, "sent_at": 1e300, "eta": [], "retries": "x", "argsrepr": "\x1b]0;"}}),
    json.dumps({"headers": {"sent_at": True}, "body": "!"}),
    json.dumps({"headers": {"id": str(UUID(int=7)), "task": "storage.insert"}, "body": "W10="}),
]  # fmt: skip


@pytest.mark.parametrize("raw", HOSTILE)
def test_any_message_is_shown(raw: str) -> None:
    message = read_message(raw, "storage")
    assert message.contract is None
    assert message.pattern_name is None
    assert "\x1b" not in message.description + message.task + message.id
    assert isinstance(message.matches(JobFilter.parse({"pattern_name": "x"})), bool)
