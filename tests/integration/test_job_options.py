"""Options of jobs on their way: what a message says, which goes first, what a worker does with a late one."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis
from celery import Celery
from psycopg.types.json import Jsonb

from pattern_storage.config.settings import load_settings
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.storage.job_options import JobOptions
from pattern_storage.tasks.client import AsyncPatternStorageClient, Job, PatternStorageClient
from pattern_storage.tasks.client.outgoing import prepare
from pattern_storage.tasks.client.publisher import KombuPublisher
from pattern_storage.tasks.relay import Relay
from pattern_storage.vocabulary import ErrorType, JobState, Priority
from tests.fix_celery import BLOCKED, StorageWorker, locked_patterns, worker_connections
from tests.fix_process import DEADLINE, wait_until
from tests.fix_servers import messages_on
from tests.fix_storage import contract, make_pattern

LOW, LOWEST = "storage\x06\x166", "storage\x06\x169"


def ids(store: "redis.Redis", queue: str = "storage") -> list[str]:
    return [message["headers"]["id"] for message in messages_on(store, queue)]


async def test_a_stock_consumer_takes_the_urgent_first(redis_url: str) -> None:
    with PatternStorageClient(redis_url=redis_url) as client:
        contracts = [contract("insert", data=make_pattern()) for _ in range(2)]
        lowest = client.insert(make_pattern(), priority="lowest")
        low = client.insert(make_pattern(), priority=Priority.LOW)
        normal = [client.insert(make_pattern(), priority=None), client.insert(make_pattern(), priority="normal")]
        urgent = client.submit_many(contracts, priority="urgent")
        async with AsyncPatternStorageClient(redis_url=redis_url) as other:
            first = await other.delete(normal[0].correlation_id, priority="urgent")
    wanted: list[Any] = [first, *urgent, *normal, low, lowest]
    with Celery("stock", broker=redis_url, set_as_current=False) as app, app.connection_for_read() as connection:
        queue = connection.SimpleQueue("storage")
        taken = []
        for _ in wanted:
            message = queue.get_nowait()
            message.ack()
            taken.append(message.headers["id"])
        queue.close()
    assert taken == [str(job.correlation_id) for job in wanted]


def test_an_urgent_job_behind_three_thousand(served_client: PatternStorageClient, worker: StorageWorker) -> None:
    many = [contract("insert", data=make_pattern()) for _ in range(3_000)]
    with redis.Redis.from_url(worker.redis_url) as store, locked_patterns(worker.database_url):
        served_client.submit_many(many)
        wait_until(lambda: worker_connections(worker.database_url, BLOCKED), "a job waits for the table")
        urgent = served_client.insert(make_pattern(), priority="urgent")
    try:
        assert urgent.result(DEADLINE).success
    finally:
        store.delete("storage")
    statement = """
        SELECT count(*) FROM job_ledger
        WHERE finished_at < (SELECT finished_at FROM job_ledger WHERE correlation_id = %s) AND correlation_id = ANY (%s)
    """
    with psycopg.connect(worker.database_url) as connection:
        values = [urgent.correlation_id, [one.correlation_id for one in many]]
        [(before,)] = connection.execute(statement, values).fetchall()
    # Only those that the worker had taken already.
    assert before < 1_000


def test_what_a_message_says(redis_url: str, store: "redis.Redis") -> None:
    begin, end = datetime.now(UTC) + timedelta(seconds=100), datetime.now(UTC) + timedelta(seconds=200)
    asked = contract("update", pattern_id="01234567-89ab-4def-8123-456789abcdef", data={"usage_count": 1})
    settings = load_settings(redis_url=redis_url)
    with PatternStorageClient(redis_url=redis_url, defaults={"priority": "low", "queue": "fast"}) as client:
        client.submit(asked, eta=begin, expires=end)
        job = prepare(asked)._replace(options=JobOptions(Priority.LOW, begin, end, "fast"))
        KombuPublisher(settings, store).publish([job], DEADLINE)
        client.query(limit=1, priority="normal", queue="storage", delay=50)
    ours, theirs = messages_on(store, "fast\x06\x166")
    assert (ours["headers"]["eta"], ours["headers"]["expires"]) == (begin.isoformat(), end.isoformat())
    for message in (ours, theirs):
        del message["headers"]["sent_at"], message["properties"]["delivery_tag"], message["body"]
    assert ours == theirs
    [query] = messages_on(store)
    assert datetime.fromisoformat(query["headers"]["eta"]) > datetime.now(UTC)
    assert query["headers"]["expires"] is None


def test_refused_before_anything_is_sent(redis_url: str, store: "redis.Redis") -> None:
    with PatternStorageClient(redis_url=redis_url) as client:
        wrong: tuple[Any, ...] = ({"priority": 9}, {"delay": -1}, {"queue": ""}, {"expires": -1})
        for options in wrong:
            with pytest.raises(ContractInvalid):
                client.insert(make_pattern(), **options)
        assert store.keys() == []
    defaults: Any = {"priority": "high"}
    with pytest.raises(ContractInvalid, match="priority"):
        PatternStorageClient(redis_url=redis_url, defaults=defaults)


def test_a_delayed_job(served_client: PatternStorageClient) -> None:
    before = datetime.now(UTC)
    result = served_client.insert(make_pattern(), delay=1.5).result(DEADLINE)
    assert datetime.fromisoformat(result.data["created_at"]) >= before + timedelta(seconds=1.5)


def expired(client: PatternStorageClient, asked: Any) -> Job:
    job = prepare(asked)._replace(options=JobOptions(expires=datetime.now(UTC) - timedelta(seconds=1)))
    client.publish([job])
    return client.get(asked.correlation_id)


def test_an_expired_job_fails_and_writes_nothing(served_client: PatternStorageClient, worker: StorageWorker) -> None:
    asked = contract("insert", data=make_pattern())
    jobs = [expired(served_client, asked), expired(served_client, contract("query", query_params={"limit": 1}))]
    for job in jobs:
        result = job.result(DEADLINE)
        assert result.metadata["error_type"] == ErrorType.EXPIRED, result
        assert str(result.error).startswith("The job expired at ")
        assert job.status() == JobState.FAILURE
    with psycopg.connect(worker.database_url) as connection:
        found = connection.execute(
            "SELECT result ->> 'success', (SELECT count(*) FROM pattern_templates WHERE pattern_name = %s)"
            " FROM job_ledger WHERE correlation_id = %s",
            [asked.data["pattern_name"], asked.correlation_id],
        ).fetchall()
    assert found == [("false", 0)]
    # It is decided: the same job without an expiry is not done either.
    with redis.Redis.from_url(worker.redis_url) as store:
        store.delete(f"celery-task-meta-{asked.correlation_id}")
    assert served_client.submit(asked).result(DEADLINE).metadata["error_type"] == ErrorType.EXPIRED


def test_a_delivery_that_expires_after_the_commit_has_the_result(
    served_client: PatternStorageClient, worker: StorageWorker
) -> None:
    asked = contract("insert", data=make_pattern())
    first = served_client.submit(asked).result(DEADLINE)
    with redis.Redis.from_url(worker.redis_url) as store:
        store.delete(f"celery-task-meta-{asked.correlation_id}")
    again = expired(served_client, asked).result(DEADLINE)
    assert again.data == first.data
    assert again.metadata["replayed"]


# --- the outbox ---


def sweep(database_url: str, redis_url: str) -> int:
    return Relay(load_settings(database_url=database_url, redis_url=redis_url)).sweep()


def test_options_in_the_outbox(database_url: str, redis_url: str, store: "redis.Redis") -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    with (
        PatternStorageClient(redis_url=redis_url, database_url=database_url) as client,
        psycopg.connect(database_url) as connection,
    ):
        plain = client.submit_in(connection, contract("insert", data=make_pattern()))
        low = client.submit_in(connection, contract("insert", data=make_pattern()), priority="low", expires=end)
        # Longer than a worker could wait: the relay does.
        later = client.submit_in(connection, contract("insert", data=make_pattern()), delay=86_400, queue="fast")
        with pytest.raises(ContractInvalid):
            client.submit_in(connection, contract("insert", data=make_pattern()), priority="first")  # type: ignore[arg-type]
        connection.commit()
        assert sweep(database_url, redis_url) == 2
        assert (ids(store), ids(store, LOW)) == ([str(plain.correlation_id)], [str(low.correlation_id)])
        assert messages_on(store, LOW)[0]["headers"]["expires"] == end.isoformat()
        assert later.status() == JobState.QUEUED
        connection.execute("UPDATE outbox SET publish_after = now() WHERE options ->> 'queue' = 'fast'")
        connection.commit()
        assert sweep(database_url, redis_url) == 1
        assert ids(store, "fast") == [str(later.correlation_id)]
        assert messages_on(store, "fast")[0]["headers"]["eta"] is None
    assert asyncio.run(add_lowest(database_url, redis_url)) == sweep_ids(database_url, redis_url, store, LOWEST)


async def add_lowest(database_url: str, redis_url: str) -> list[str]:
    async with (
        AsyncPatternStorageClient(redis_url=redis_url, database_url=database_url) as client,
        await psycopg.AsyncConnection.connect(database_url) as connection,
    ):
        job = await client.submit_in(connection, contract("insert", data=make_pattern()), priority="lowest")
    return [str(job.correlation_id)]


def sweep_ids(database_url: str, redis_url: str, store: "redis.Redis", queue: str) -> list[str]:
    sweep(database_url, redis_url)
    return ids(store, queue)


def test_options_of_the_sql_function(database_url: str, redis_url: str, store: "redis.Redis") -> None:
    def enqueue(options: Any) -> str:
        asked = {"operation": "insert", "data": make_pattern()}
        row = connection.execute("SELECT enqueue_pattern_job(%s, %s)", [Jsonb(asked), Jsonb(options)]).fetchone()
        assert row is not None
        return str(row[0])

    with psycopg.connect(database_url, autocommit=True) as connection:
        low = enqueue({"priority": "low", "expires": 60, "delay": None})
        fast = enqueue({"queue": "fast", "expires": "2100-01-01T00:00:00+02:00", "eta": "2020-01-01T00:00:00Z"})
        later = enqueue({"delay": 1000.5})
        plain = enqueue(None)
        for wrong, word in (
            ({"priority": 9}, "priority"), ({"color": 1}, "color"), ({"delay": "soon"}, "delay"), ([], "object"),
            ({"eta": "soon"}, "eta"), ({"expires": True}, "expires"), ({"queue": "a b"}, "queue"),
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InvalidParameterValue, match=word):
                enqueue(wrong)
        due = connection.execute(
            "SELECT correlation_id::text FROM outbox WHERE publish_after > now() + interval '990 s'"
        ).fetchall()
        assert due == [(later,)]
        assert sweep(database_url, redis_url) == 3
        assert (ids(store, LOW), ids(store, "fast"), ids(store)) == ([low], [fast], [plain])
        assert messages_on(store, "fast")[0]["headers"]["expires"] == "2099-12-31T22:00:00+00:00"
        # What nobody could send is a dead letter, and holds nobody up.
        connection.execute("UPDATE outbox SET publish_after = now(), options = '{\"priority\": 3}' WHERE published = 0")
        assert sweep(database_url, redis_url) == 1
        found = connection.execute("SELECT correlation_id::text, error FROM dead_letters").fetchall()
        assert found == [(later, "priority should be one of 'urgent', 'normal', 'low', 'lowest', got '3'")]
