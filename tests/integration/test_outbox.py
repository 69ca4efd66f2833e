"""Jobs that exist if and only if the application's transaction commits, from Python and from any other language."""

import json
from collections.abc import Callable, Iterator
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb

from pattern_storage.storage import ModelContractPatternStorage, NodePatternStorageEffect, dead_letters, ledger, outbox
from pattern_storage.storage.errors import ContractInvalid, CorrelationConflict, UnsupportedOperation
from pattern_storage.storage.sql import block
from pattern_storage.tasks.client import AsyncPatternStorageClient, PatternStorageClient
from pattern_storage.tasks.client.outgoing import request_fingerprint
from pattern_storage.tasks.client.result_document import matches_request
from tests.fix_celery import StorageWorker
from tests.fix_process import DEADLINE, ProcessGroup, wait_until
from tests.fix_storage import Connection, contract, make_pattern

ENQUEUE: LiteralString = "SELECT enqueue_pattern_job(%s)"


def insertion(**fields: Any) -> ModelContractPatternStorage:
    return contract("insert", data=make_pattern(), **fields)


@pytest.fixture
def application(database_url: str) -> Iterator[psycopg.Connection]:
    """An application's own connection, in a transaction."""
    with psycopg.connect(database_url) as connection:
        yield connection


@pytest.fixture
def relay(start_process: Callable[..., ProcessGroup], database_url: str, redis_url: str) -> ProcessGroup:
    """A running relay."""
    started = start_process("pattern_storage", "relay", DATABASE_URL=database_url, REDIS_URL=redis_url)
    wait_until(lambda: "relay: started" in started.text(), "the relay has started")
    return started


def rows(database_url: str, statement: LiteralString, values: Any = None) -> list[Any]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        return connection.execute(statement, values).fetchall()


def queued(redis_url: str, queue: str = "storage") -> list[str]:
    """The ids of the messages on a queue, the oldest first."""
    with redis.Redis.from_url(redis_url) as server:
        messages: Any = server.lrange(queue, 0, -1)
    return [json.loads(message)["headers"]["id"] for message in reversed(messages)]


async def test_rolled_back_is_never_published(
    client: PatternStorageClient,
    application: psycopg.Connection,
    relay: ProcessGroup,
    redis_url: str,
    database_url: str,
) -> None:
    lost, kept = insertion(), insertion()
    client.submit_in(application, lost)
    application.rollback()
    job = client.submit_in(application, kept)
    application.commit()
    wait_until(lambda: queued(redis_url), "the other one is published")
    assert queued(redis_url) == [str(kept.correlation_id)] == [str(job.correlation_id)]
    assert job.status() == "QUEUED"
    assert client.get(lost.correlation_id).status() == "UNKNOWN"
    assert rows(database_url, "SELECT correlation_id FROM outbox") == [(kept.correlation_id,)]


async def test_every_write_from_commit_to_effect(
    client: PatternStorageClient,
    application: psycopg.Connection,
    relay: ProcessGroup,
    start_worker: Callable[..., StorageWorker],
    database_url: str,
) -> None:
    start_worker()
    first = insertion()
    with application.transaction():
        application.execute("CREATE TABLE mine (x int)")
        job = client.submit_in(application, first)
        batch = client.submit_in(application, contract("batch_insert", patterns=[make_pattern() for _ in range(3)]))
    inserted = job.result(DEADLINE)
    assert inserted.success, inserted.error
    assert batch.result(DEADLINE).data["count"] == 3
    update = contract("update", pattern_id=inserted.data["pattern_id"], data={"usage_count": 3})
    with application.transaction():
        job = client.submit_in(application, update)
    assert job.result(DEADLINE).success
    with application.transaction():
        job = client.submit_in(application, contract("delete", pattern_id=inserted.data["pattern_id"]))
    assert job.result(DEADLINE).success
    with application.transaction():
        failed = client.submit_in(application, contract("delete", pattern_id=inserted.data["pattern_id"]))
    assert failed.result(DEADLINE).metadata["error_type"] == "validation_error"
    assert rows(database_url, "SELECT * FROM outbox") == []
    assert rows(database_url, "SELECT count(*) FROM job_ledger") == [(5,)]


async def test_async_client(
    async_client: AsyncPatternStorageClient, connection: Connection, relay: ProcessGroup, redis_url: str
) -> None:
    """On a connection whose rows are dicts."""
    asked = insertion()
    async with connection.transaction():
        job = await async_client.submit_in(connection, asked)
        assert job.correlation_id == asked.correlation_id
        await async_client.submit_in(connection, asked)
        with pytest.raises(CorrelationConflict):
            await async_client.submit_in(connection, insertion(correlation_id=asked.correlation_id))
    wait_until(lambda: queued(redis_url) == [str(asked.correlation_id)], "it is published")


def test_jobs_of_one_transaction_keep_their_order(
    client: PatternStorageClient, application: psycopg.Connection, relay: ProcessGroup, redis_url: str
) -> None:
    with application.transaction():
        ids = [str(client.submit_in(application, insertion()).correlation_id) for _ in range(50)]
    wait_until(lambda: len(queued(redis_url)) == 50, "all are published")
    assert queued(redis_url) == ids


@pytest.mark.parametrize("row_factory", [None, dict_row])
def test_same_id_twice(client: PatternStorageClient, database_url: str, row_factory: Any) -> None:
    asked = insertion()
    factory = {"row_factory": row_factory} if row_factory else {}
    with psycopg.connect(database_url, **factory) as application:
        client.submit_in(application, asked)
        client.submit_in(application, asked)
        client.submit_in(application, asked.model_copy(update={"name": "other"}))
        with pytest.raises(CorrelationConflict, match=str(asked.correlation_id)):
            client.submit_in(application, insertion(correlation_id=asked.correlation_id))
    # The transaction went on, and committed.
    assert rows(database_url, "SELECT correlation_id FROM outbox") == [(asked.correlation_id,)]


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (contract("query"), ContractInvalid, "A query changes nothing that the outbox could guarantee"),
        (contract("insert", data=make_pattern(confidence_score=5)), ContractInvalid, "confidence_score should be"),
        (contract("merge"), UnsupportedOperation, "Unsupported operation: merge"),
    ],
)
def test_refused_before_anything_is_written(
    client: PatternStorageClient,
    application: psycopg.Connection,
    asked: ModelContractPatternStorage,
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        client.submit_in(application, asked)
    assert application.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_commit_waits_for_no_other(database_url: str) -> None:
    """NOTIFY in a trigger made all commits of the cluster wait for one lock."""
    assert rows(database_url, "SELECT tgname FROM pg_trigger WHERE tgrelid = 'outbox'::regclass") == []


# --- the SQL function ---


def test_sql_function_from_a_foreign_application(
    database_url: str, redis_url: str, relay: ProcessGroup, start_worker: Callable[..., StorageWorker]
) -> None:
    start_worker()
    asked = {"operation": "insert", "data": make_pattern(confidence_score=0.25)}
    with psycopg.connect(database_url) as application:
        # Its own schema comes first, and has an outbox of its own.
        application.execute("CREATE SCHEMA theirs CREATE TABLE outbox (x int)")
        application.execute("SET search_path = theirs")
        [(job,)] = application.execute("SELECT public.enqueue_pattern_job(%s)", [Jsonb(asked)]).fetchall()
    assert isinstance(job, UUID)
    with PatternStorageClient(redis_url=redis_url) as client:
        result = client.get(job).result(DEADLINE)
    assert result.success, result.error
    stored = rows(database_url, "SELECT pattern_name, confidence_score FROM pattern_templates")
    assert stored == [(asked["data"]["pattern_name"], 0.25)]
    assert rows(database_url, "SELECT * FROM outbox") == []


def test_sql_function_keeps_the_id_and_the_transaction(application: psycopg.Connection, database_url: str) -> None:
    mine = uuid4()
    asked = {"operation": "insert", "data": make_pattern(), "correlation_id": str(mine).upper()}
    for _ in range(2):
        assert application.execute(ENQUEUE, [Jsonb(asked)]).fetchone() == (mine,)
    assert rows(database_url, "SELECT * FROM outbox") == []
    application.commit()
    [(found,)] = rows(database_url, "SELECT contract FROM outbox")
    assert found == asked | {"correlation_id": str(mine)}
    with pytest.raises(psycopg.errors.UniqueViolation, match=f"Correlation id {mine} belongs to another request"):
        application.execute(ENQUEUE, [Jsonb(asked | {"data": make_pattern()})])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (None, "contract should be a JSON object, got NULL"),
        (Jsonb([]), "contract should be a JSON object, got array"),
        (Jsonb(None), "contract should be a JSON object, got null"),
        (Jsonb({}), "operation is missing; it should be insert, update, delete or batch_insert"),
        (Jsonb({"operation": None}), "operation is missing"),
        (Jsonb({"operation": "query"}), "operation is query; it should be insert"),
        (Jsonb({"operation": ["insert"]}), 'operation is ["insert"]; it should be insert'),
        (Jsonb({"operation": "100% %s"}), "operation is 100% %s; it should be insert"),
        (Jsonb({"operation": "delete", "correlation_id": "x"}), "correlation_id is x; it should be a UUID"),
        (Jsonb({"operation": "delete", "correlation_id": 7}), "correlation_id is 7; it should be a UUID"),
    ],
)
def test_sql_function_refuses(application: psycopg.Connection, asked: Any, says: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as raised:
        application.execute(ENQUEUE, [asked])
    assert str(raised.value.diag.message_primary).startswith(says)


# --- the statements of a relay ---


async def write(connection: Connection, count: int) -> list[UUID]:
    asked = [insertion() for _ in range(count)]
    for one in asked:
        async with connection.transaction():
            await outbox.add(connection, one)
    return [one.correlation_id for one in asked]


async def claim(connection: Connection, **options: Any) -> list[UUID]:
    return [job.correlation_id for job in await outbox.claim(connection, **options)]


async def test_nobody_claims_what_another_holds(connection: Connection, database_url: str) -> None:
    ids = await write(connection, 5)
    async with await AsyncConnection.connect(database_url, autocommit=True, row_factory=dict_row) as other:
        async with connection.transaction():
            assert await claim(connection, limit=3) == ids[:3]
            async with other.transaction():
                assert await claim(other) == ids[3:]
                await outbox.mark_published(other, ids[3:], delay=60)
        # The first one has marked nothing: its rows are free again.
        async with other.transaction():
            assert await claim(other) == ids[:3]


async def test_nothing_is_due_in_an_empty_outbox(connection: Connection) -> None:
    assert await outbox.next_publication(connection) is None


async def test_published_again_after_twice_the_delay_each_time(connection: Connection) -> None:
    ids = await write(connection, 1)
    due = await outbox.next_publication(connection)
    assert due is not None
    assert due <= 0
    for expected in (60, 120, 240, 480, 960, 1920, 3840, 3840):
        await outbox.mark_published(connection, ids, delay=60)
        due = await outbox.next_publication(connection)
        assert due is not None
        assert expected - 5 < due <= expected
        assert await claim(connection) == []
    await connection.execute("UPDATE outbox SET publish_after = now()")
    assert await claim(connection) == ids


async def test_a_claim_is_bounded_by_size(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await write(connection, 3)
    monkeypatch.setattr(outbox, "CLAIM_SIZE", 1)
    assert await claim(connection) == ids[:1]


async def test_a_frozen_relay_loses_its_locks(connection: Connection, database_url: str) -> None:
    ids = await write(connection, 1)
    async with await AsyncConnection.connect(database_url, autocommit=True, row_factory=dict_row) as frozen:
        await frozen.execute("BEGIN")
        assert await claim(frozen, idle_seconds=0.05) == ids
        # What a worker does that has finished the job: it waits for the frozen relay's end.
        await connection.execute("DELETE FROM outbox")
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            await frozen.execute("SELECT 1")
    assert (await outbox.measure(connection)).jobs == 0


async def test_measures(connection: Connection) -> None:
    assert await outbox.measure(connection) == outbox.OutboxSize(0, 0, 0.0)
    ids = await write(connection, 3)
    await connection.execute("UPDATE outbox SET publish_after = now() - interval '1 hour'")
    await outbox.mark_published(connection, ids[:1], delay=60)
    size = await outbox.measure(connection)
    assert (size.jobs, size.unpublished) == (3, 2)
    assert 3600 <= size.age < 3700


async def test_row_goes_when_the_job_ends(node: NodePatternStorageEffect, connection: Connection) -> None:
    """Done, failed for good, cancelled, a dead letter: nobody publishes it any more."""
    asked = [insertion(), contract("delete", pattern_id=uuid4()), insertion(), insertion()]
    for one in asked:
        async with connection.transaction():
            await outbox.add(connection, one)
    assert (await node.execute_once(asked[0])).success
    failed = await node.execute_once(asked[1])
    assert not failed.success
    await ledger.cancel(connection, asked[2].correlation_id)
    assert (await outbox.measure(connection)).jobs == 1
    await dead_letters.add(connection, asked[3], failed, attempts=5)
    assert (await outbox.measure(connection)).jobs == 0


async def test_a_job_that_was_done_already_is_published_once(
    node: NodePatternStorageEffect, connection: Connection
) -> None:
    asked = insertion()
    assert (await node.execute_once(asked)).success
    async with connection.transaction():
        await outbox.add(connection, asked)
    assert [job.finished for job in await outbox.claim(connection)] == [False]
    await outbox.mark_published(connection, [asked.correlation_id], delay=60)
    await connection.execute("UPDATE outbox SET publish_after = now()")
    assert [job.finished for job in await outbox.claim(connection)] == [True]


async def test_claim_reads_only_what_is_due(connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO outbox (correlation_id, contract, publish_after)"
        " SELECT gen_random_uuid(), '{}', now() + n * interval '1 minute' FROM generate_series(-9, 20000) n"
    )
    await connection.execute("ANALYZE outbox")
    assert len(await claim(connection)) == 10
    for name in ("claim_jobs", "next_publication"):
        statement = f"EXPLAIN (FORMAT JSON) {block(name)}"
        found = await (await connection.execute(statement.encode(), {"limit": 500, "size": 1000})).fetchone()
        plan = json.dumps(found)
        assert "outbox_publish_after" in plan
        assert "Seq Scan" not in plan


# --- rows that no worker could take ---

BAD: list[tuple[Any, str, str]] = [
    ([], "validation_error", "contract should be a JSON object, got list"),
    ({"data": {}}, "validation_error", "operation is required"),
    ({"operation": "merge"}, "unsupported_operation", "Unsupported operation: merge"),
    ({"operation": "query"}, "validation_error", "A query changes nothing"),
    ({"operation": "insert", "data": {"pattern_name": "x"}}, "validation_error", "Insert operation missing required"),
    ({"operation": "delete", "pattern_id": str(uuid4()), "correlation_id": str(uuid4())}, "validation_error", "corr"),
    ({"operation": "delete", "pattern_id": "\x00"}, "validation_error", "pattern_id should be"),
    ({"operation": "batch_insert", "patterns": [make_pattern(usage_count=-1)]}, "validation_error", "Batch insert"),
    ({"operation": "delete", "nonsense\x00": 1}, "validation_error", "unknown field"),
]


async def test_a_bad_row_becomes_a_dead_letter_and_holds_nobody_up(
    connection: Connection, relay: ProcessGroup, redis_url: str
) -> None:
    good = insertion()
    ids = [uuid4() for _ in BAD]
    deep, deep_json = uuid4(), '{"operation":' * 500 + "1" + "}" * 500
    async with connection.transaction():
        for job, (bad, _, _) in zip(ids, BAD, strict=True):
            await connection.execute("INSERT INTO outbox (correlation_id, contract) VALUES (%s, %s)", [job, Json(bad)])
        await connection.execute("INSERT INTO outbox (correlation_id, contract) VALUES (%s, %s)", [deep, deep_json])
        async with connection.transaction():
            await outbox.add(connection, good)
    wait_until(lambda: queued(redis_url) == [str(good.correlation_id)], "the good one is published")
    # It is published before the relay's transaction commits.
    wait_until(lambda: relay.text().count("is a dead letter") == len(BAD) + 1, "the bad ones are dead letters")
    letters = {letter.correlation_id: letter for letter in await dead_letters.fetch(connection)}
    assert letters.keys() == {*ids, deep}
    for job, (bad, error_type, says) in zip(ids, BAD, strict=True):
        letter = letters[job]
        assert (json.loads(letter.contract), letter.error_type, letter.attempts) == (bad, error_type, 0)
        assert letter.error.startswith(says)
    assert "recursion limit" in letters[deep].error
    assert (await outbox.measure(connection)).jobs == 1


@pytest.mark.parametrize("number", ["1e22", "1e2", "100.0", "0.1", "-0.0", "1e-7", "123456789012345678901234567890"])
async def test_the_same_numbers_by_sql_and_by_a_client(
    node: NodePatternStorageEffect, connection: Connection, number: str
) -> None:
    """jsonb spells some numbers in another way; the request is the same."""
    asked = contract("insert", data=make_pattern(context={"number": json.loads(number)}))
    text = json.dumps(asked.model_dump(mode="json") | {"data": {**asked.data, "context": {"number": "NUMBER"}}})
    await connection.execute("SELECT enqueue_pattern_job(%s::jsonb)", [text.replace('"NUMBER"', number)])
    async with connection.transaction():
        await outbox.add(connection, asked)
    async with connection.transaction():
        (job,) = await outbox.claim(connection)
    first = await node.execute_once(outbox.read(job.correlation_id, job.contract))
    assert first.success, first.error
    again = await node.execute_once(asked)
    assert (again.metadata.get("error_type"), again.metadata.get("replayed")) == (None, True)
    assert matches_request(request_fingerprint(asked), again)


async def test_a_number_that_would_lose_digits_is_refused(connection: Connection) -> None:
    asked = contract("insert", data=make_pattern(context={"number": 0.5}))
    text = json.dumps(asked.model_dump(mode="json")).replace("0.5", "0.12345678901234567890")
    await connection.execute("SELECT enqueue_pattern_job(%s::jsonb)", [text])
    async with connection.transaction():
        (job,) = await outbox.claim(connection)
    with pytest.raises(ContractInvalid, match=r"0\.12345678901234567890 has more digits than can be kept"):
        outbox.read(job.correlation_id, job.contract)
