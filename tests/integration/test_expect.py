"""`expect`: an update or delete that comes after another update changes nothing, whichever way it comes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pattern_storage import ContractInvalid, ModelContractPatternStorage, PatternStorageClient
from pattern_storage.storage import NodePatternStorageEffect
from pattern_storage.storage.fingerprint import fingerprint
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.pool import create_pool
from pattern_storage.testing import inline, make_pattern
from pattern_storage.vocabulary import ErrorType
from tests.fix_process import DEADLINE
from tests.fix_storage import Executor, contract, fail, succeed

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def insert(node: NodePatternStorageEffect) -> tuple[str, str]:
    """Store a pattern; return its id and its first `updated_at`, which is its `created_at`."""
    stored = await succeed(node, "insert", data=make_pattern())
    return stored["pattern_id"], stored["created_at"]


async def record(node: NodePatternStorageEffect, pattern_id: str) -> dict[str, Any]:
    [found] = (await succeed(node, "query", query_params={"id": pattern_id}))["patterns"]
    return dict(found)


def update(pattern_id: str, count: int, **fields: Any) -> ModelContractPatternStorage:
    return contract("update", pattern_id=pattern_id, data={"usage_count": count}, **fields)


async def test_an_update_and_a_delete_that_are_expected(node: NodePatternStorageEffect) -> None:
    pattern_id, seen = await insert(node)
    updated = (await node.execute_effect(update(pattern_id, 1, expect=seen))).data
    assert (updated["fields_updated"], updated["updated_at"] > seen) == (["usage_count"], True)
    deleted = await succeed(node, "delete", pattern_id=pattern_id, expect=updated["updated_at"])
    assert deleted == {"pattern_id": pattern_id, "pattern_name": updated["pattern_name"], "deleted": True}


async def test_one_that_comes_too_late_changes_nothing(node: NodePatternStorageEffect) -> None:
    pattern_id, seen = await insert(node)
    present = (await succeed(node, "update", pattern_id=pattern_id, data={"usage_count": 1}))["updated_at"]
    late = update(pattern_id, 2, expect=seen)
    for result in (
        await node.execute_effect(late),
        await fail(node, "delete", pattern_id=pattern_id, expect=datetime.fromisoformat(seen)),
    ):
        assert result.metadata["error_type"] == ErrorType.VERSION_CONFLICT
        assert result.metadata["present_updated_at"] == present
        assert result.error == (
            f"Pattern {pattern_id} was last updated at {present}, not at {seen} as expected; read it again"
        )
    assert (await record(node, pattern_id))["usage_count"] == 1
    # What the failure names is what to expect next.
    again = await node.execute_effect(update(pattern_id, 2, expect=result.metadata["present_updated_at"]))
    assert again.success


async def test_a_pattern_that_is_gone_is_not_found(node: NodePatternStorageEffect) -> None:
    for operation, fields in (("update", {"data": {"usage_count": 1}}), ("delete", {})):
        result = await fail(node, operation, pattern_id=str(uuid4()), expect=LONG_AGO, **fields)
        assert str(result.error).startswith("Pattern not found")


@pytest.mark.parametrize(
    ("expect", "sentence"),
    [
        ("2026-01-31T12:00:00", "expect: must have a time zone, for example 2026-01-31T12:00:00Z, got '2026"),
        ("yesterday", "expect should be a valid datetime"),
        # The sentence of a conflict tells it in UTC.
        ("9999-12-31T23:59:59-05:00", "expect: must be in the years 1 to 9999 in UTC, got '9999"),
    ],
)
def test_what_is_no_moment_is_refused(client: PatternStorageClient, expect: str, sentence: str) -> None:
    with pytest.raises(ContractInvalid, match=sentence):
        client.delete(uuid4(), expect=expect)


def test_an_insert_expects_nothing(client: PatternStorageClient) -> None:
    with pytest.raises(ContractInvalid, match="expect has no meaning for the operation 'insert'; leave it out"):
        client.submit(contract("insert", data=make_pattern(), expect=LONG_AGO))
    changed = contract("delete", pattern_id=uuid4())
    changed.expect = "2026"  # type: ignore[assignment]
    with pytest.raises(ContractInvalid, match="expect should be a datetime, got str"):
        client.submit(changed)


def test_a_contract_without_it_is_as_it_was() -> None:
    """Workers of older releases refuse fields that they do not know, and the ledger has fingerprints of theirs."""
    plain = contract("delete", pattern_id="0f0e0d0c-0b0a-0908-0706-050403020100")
    assert "expect" not in plain.model_dump(mode="json")
    assert fingerprint(plain).hex()[:16] == "53232d641acaa5a1"
    expecting = contract("delete", pattern_id=plain.pattern_id, expect=LONG_AGO)
    assert expecting.model_dump(mode="json")["expect"] == "2020-01-01T00:00:00Z"
    assert fingerprint(expecting) != fingerprint(plain)


async def test_a_redelivery_has_the_first_result(executor: Executor, node: NodePatternStorageEffect) -> None:
    pattern_id, seen = await insert(node)
    job = update(pattern_id, 1, expect=seen)
    first = await executor.execute_once(job)
    # Its own update is what it would meet now.
    second = await executor.execute_once(job)
    assert (first.success, second.success, second.metadata["replayed"]) == (True, True, True)
    late = update(pattern_id, 2, expect=seen)
    refused = await executor.execute_once(late)
    other = update(pattern_id, 3, expect=seen, correlation_id=late.correlation_id)
    assert (await executor.execute_once(late)).metadata["error_type"] == "version_conflict"
    assert refused.metadata["error_type"] == "version_conflict"
    assert (await executor.execute_once(other)).metadata["error_type"] == "correlation_conflict"


async def test_jobs_of_one_group_see_each_other(node: NodePatternStorageEffect, group: GroupConnection) -> None:
    """They share a transaction and so a `now()`: each update has a time of its own all the same."""
    pattern_id, seen = await insert(node)
    first, second, third = update(pattern_id, 1, expect=seen), update(pattern_id, 2, expect=seen), update(pattern_id, 3)
    gone = contract("delete", pattern_id=pattern_id, expect=seen)
    results = [one.parse() for one in group.execute([first, second, third, gone]) if one is not None]
    assert [one.metadata.get("error_type") for one in results] == [None, "version_conflict", None, "version_conflict"]
    times = [results[0].data["updated_at"], results[2].data["updated_at"]]
    assert results[1].metadata["present_updated_at"] == times[0]
    assert seen < times[0] < times[1]
    # What the first job's caller has seen is not the present any more.
    assert (await node.execute_effect(update(pattern_id, 4, expect=times[0]))).metadata["error_type"] == (
        "version_conflict"
    )
    again = group.execute([first, update(pattern_id, 5, expect=times[1])])
    assert again[0] is None
    assert again[1] is not None
    assert again[1].success


async def test_time_never_goes_back(node: NodePatternStorageEffect, connection: Any) -> None:
    """The server's clock may be set back, and transactions commit in another order than they begin."""
    pattern_id, _ = await insert(node)
    ahead = datetime.now(UTC) + timedelta(days=1)
    await connection.execute("UPDATE pattern_templates SET updated_at = %s", [ahead])
    updated = await succeed(node, "update", pattern_id=pattern_id, data={"usage_count": 1}, expect=ahead)
    assert datetime.fromisoformat(updated["updated_at"]) == ahead + timedelta(microseconds=1)


async def test_of_many_at_once_one_is_in_time(
    database_url: str, node: NodePatternStorageEffect, group: GroupConnection
) -> None:
    """Two pools, as two workers have them, with single jobs and groups."""
    pattern_id, seen = await insert(node)
    async with create_pool(database_url) as pool:
        nodes = [node, NodePatternStorageEffect(pool)]
        single = [nodes[count % 2].execute_once(update(pattern_id, count, expect=seen)) for count in range(10)]
        jobs = [update(pattern_id, 10 + count, expect=seen) for count in range(5)]
        results, together = await asyncio.gather(asyncio.gather(*single), asyncio.to_thread(group.execute, jobs))
    # A group that waited too long for the row is executed alone, as a worker does.
    for job, result in zip(jobs, together, strict=True):
        results.append(await node.execute_once(job) if result is None else result.parse())
    assert [one.success for one in results].count(True) == 1
    assert {one.metadata.get("error_type") for one in results} == {None, "version_conflict"}


def test_of_many_jobs_one_is_in_time(served_client: PatternStorageClient) -> None:
    """By way of the queue, a worker with two processes, and groups."""
    stored = served_client.insert(make_pattern()).result(DEADLINE).data["pattern_id"]
    seen = served_client.query(id=stored).result(DEADLINE).data["patterns"][0]["updated_at"]
    jobs = served_client.submit_many([update(stored, count, expect=seen) for count in range(40)])
    results = [job.result(DEADLINE) for job in jobs]
    [winner] = [count for count, one in enumerate(results) if one.success]
    assert {one.metadata.get("error_type") for one in results} == {None, "version_conflict"}
    assert served_client.query(id=stored).result(DEADLINE).data["patterns"][0]["usage_count"] == winner


def test_jobs_of_the_outbox(database_url: str) -> None:
    with inline(database_url) as mode, PatternStorageClient() as client, psycopg.connect(database_url) as connection:
        stored = client.insert(make_pattern()).result().data["pattern_id"]
        seen = client.query(id=stored).result().data["patterns"][0]["updated_at"]
        in_time = client.submit_in(connection, update(stored, 1, expect=seen))
        late = {"operation": "update", "pattern_id": stored, "data": {"usage_count": 2}, "expect": seen}
        [[late_id]] = connection.execute("SELECT enqueue_pattern_job(%s)", [Jsonb(late)]).fetchall()
        connection.commit()
        assert mode.run_outbox() == 2
        assert in_time.result().success
        assert client.get(late_id).result().metadata["error_type"] == "version_conflict"
