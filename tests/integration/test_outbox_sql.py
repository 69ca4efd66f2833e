"""The SQL function of the outbox, for applications in any language, and rows that no worker could take."""

import json
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Json, Jsonb

from pattern_storage.storage import NodePatternStorageEffect, dead_letters, outbox
from pattern_storage.storage.errors import ContractInvalid
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.client.outgoing import request_fingerprint
from pattern_storage.tasks.client.result_document import matches_request
from tests.fix_celery import StartWorker
from tests.fix_outbox import insertion, queued
from tests.fix_process import DEADLINE, ProcessGroup, wait_until
from tests.fix_storage import Connection, contract, fetch, make_pattern

ENQUEUE: LiteralString = "SELECT enqueue_pattern_job(%s)"


def test_sql_function_from_a_foreign_application(
    database_url: str, redis_url: str, relay: ProcessGroup, start_worker: StartWorker
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
    stored = fetch(database_url, "SELECT pattern_name, confidence_score FROM pattern_templates")
    assert stored == [(asked["data"]["pattern_name"], 0.25)]
    assert fetch(database_url, "SELECT * FROM outbox") == []


def test_sql_function_keeps_the_id_and_the_transaction(application: psycopg.Connection, database_url: str) -> None:
    mine = uuid4()
    asked = {"operation": "insert", "data": make_pattern(), "correlation_id": str(mine).upper()}
    for _ in range(2):
        assert application.execute(ENQUEUE, [Jsonb(asked)]).fetchone() == (mine,)
    assert fetch(database_url, "SELECT * FROM outbox") == []
    application.commit()
    [(found,)] = fetch(database_url, "SELECT contract FROM outbox")
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
