"""Recorded jobs of the testing kit: they go nowhere, and every field of them can be asserted."""

from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from pattern_storage import (
    AsyncPatternStorageClient,
    ContractInvalid,
    JobTimeout,
    ModelResult,
    Pattern,
    PatternStorageClient,
)
from pattern_storage.testing import (
    RecordedMode,
    make_contract,
    make_pattern,
)
from pattern_storage.testing.transactions import Transaction, rolled_back


def test_recorded_jobs_go_nowhere(recorded_jobs: RecordedMode) -> None:
    with PatternStorageClient() as client:
        job = client.insert(make_pattern(pattern_name="Recorded"))
        client.batch_insert([make_pattern(pattern_name="First"), make_pattern(pattern_name="Second")])
        client.query(language="python", limit=3)
        client.delete(uuid4(), priority="urgent", expires=60)
        with pytest.raises(ContractInvalid, match="confidence_score"):
            client.insert(make_pattern(confidence_score=2))
        with pytest.raises(ContractInvalid, match="connect_timeout should be a number of seconds"):
            client.insert(make_pattern(), connect_timeout=0)
        jobs = recorded_jobs.jobs
        assert len(jobs) == 4
        assert (
            jobs.assert_enqueued(operation="insert", pattern_name="Recorded").contract.correlation_id == jobs.ids()[0]
        )
        assert jobs.assert_enqueued(pattern_name="Second").contract.operation == "batch_insert"
        jobs.assert_enqueued(operation="query", limit=3)
        jobs.assert_enqueued(operation="delete", priority="urgent", expires=60)
        jobs.assert_not_enqueued(priority="low")
        jobs.assert_enqueued(correlation_id=job.correlation_id, count=1)
        jobs.assert_not_enqueued(operation="update")
        with pytest.raises(AssertionError, match=r"none .* pattern_name='Other':\n  insert Recorded\n"):
            jobs.assert_enqueued(pattern_name="Other")
        with pytest.raises(AssertionError, match="1 of these jobs matches operation='insert'"):
            jobs.assert_enqueued(operation="insert", count=2)
        with pytest.raises(AssertionError, match="this job matches operation='query'"):
            jobs.assert_not_enqueued(operation="query")
        with pytest.raises(TypeError, match="did you mean 'pattern_name'"):
            jobs.assert_enqueued(pattern_nam="Recorded")
        assert job.status() == "QUEUED"
        with pytest.raises(JobTimeout):
            job.result(timeout=3600)
        recorded_jobs.answer("insert", {"pattern_id": "7"})
        assert job.result().data == {"pattern_id": "7"}
        assert (job.status(), job.progress()) == ("SUCCESS", None)
        recorded_jobs.answer("query", ModelResult.failure("no", "x", correlation_id="1", operation="query"))
        assert client.query().result().error == "no"
        assert job.cancel().metadata["error_type"] == "revoked"
        assert (job.status(), client.get(uuid4()).status()) == ("REVOKED", "UNKNOWN")
        jobs.clear()
        jobs.assert_not_enqueued()
        with pytest.raises(ValueError, match=r"^there is no operation 'upsert' to answer; (did you|known are)"):
            recorded_jobs.answer("upsert", {})


def test_every_field_of_a_contract_can_be_asserted(recorded_jobs: RecordedMode) -> None:
    jobs, pattern_id, seen = recorded_jobs.jobs, uuid4(), datetime(2026, 1, 31, 12, tzinfo=UTC)
    pattern = make_pattern(pattern_name="Fields")
    with PatternStorageClient() as client:
        client.update(pattern_id, {"usage_count": 3}, expect=seen)
        client.batch_insert([Pattern(**pattern)])
    for expect in (seen, "2026-01-31T13:00:00+01:00"):
        jobs.assert_enqueued(operation="update", expect=expect, data={"usage_count": 3}, count=1)
    jobs.assert_not_enqueued(operation="update", expect=None)
    jobs.assert_not_enqueued(expect="2026-01-31T12:00:01Z")
    jobs.assert_enqueued(patterns=[Pattern(**pattern)], name="pattern_storage_batch_insert", node_type="effect")
    with pytest.raises(TypeError, match="there is no 'expected' to look for; did you mean 'expect'"):
        jobs.assert_enqueued(expected=seen)
    update, batch = jobs
    assert repr(update) == f"SubmittedJob(update {pattern_id} expect=2026-01-31T12:00:00+00:00)"
    assert repr(jobs) == f"JobLog([{update}, batch_insert 1 patterns])"
    assert (batch.matches({"pattern_name": "Fields"}), batch.transaction) == (True, None)


def test_options_of_the_client_are_those_of_its_jobs(recorded_jobs: RecordedMode, empty_database_url: str) -> None:
    jobs = recorded_jobs.jobs
    with PatternStorageClient(defaults={"priority": "low", "delay": 5}) as client:
        client.insert(make_pattern(), delay=7)
        jobs.assert_enqueued(priority="low", delay=7)
        client.insert(make_pattern(), priority="urgent")
        jobs.assert_enqueued(priority="urgent", delay=5)
        with psycopg.connect(empty_database_url) as connection:
            client.submit_in(connection, make_contract(), delay=10**6)
            jobs.assert_enqueued(outbox=True, priority="low", delay=10**6)


async def test_recorded_jobs_of_the_async_client(recorded_jobs: RecordedMode) -> None:
    async with AsyncPatternStorageClient() as client:
        job = await client.insert(make_pattern(pattern_name="Recorded"))
        recorded_jobs.jobs.assert_enqueued(pattern_name="Recorded")
        assert (await job.status(), await job.progress()) == ("QUEUED", None)
        recorded_jobs.answer("insert", {})
        assert (await job.result()).success
        assert not (await job.cancel()).success


async def test_all_results_come_before_the_timeout_of_a_job_that_has_none(recorded_jobs: RecordedMode) -> None:
    recorded_jobs.answer("insert", {})
    with PatternStorageClient() as client:
        waiting, done = client.query(), client.insert(make_pattern())
        results = client.results([waiting, done])
        assert next(results)[0] is done
        with pytest.raises(JobTimeout, match=str(waiting.correlation_id)):
            next(results)
    async with AsyncPatternStorageClient() as client:
        jobs = [await client.query(), await client.insert(make_pattern())]
        coming = client.results(jobs)
        assert (await anext(coming))[0] is jobs[1]
        with pytest.raises(JobTimeout):
            await anext(coming)


def test_recorded_jobs_of_the_outbox(recorded_jobs: RecordedMode, empty_database_url: str) -> None:
    """There is no table to write into, and none is needed."""
    with PatternStorageClient() as client, psycopg.connect(empty_database_url) as connection:
        client.submit_in(connection, make_contract())
        with pytest.raises(ContractInvalid, match="A query changes nothing"):
            client.submit_in(connection, make_contract("query"))
    recorded_jobs.jobs.assert_enqueued(operation="insert", outbox=True, count=1)
    assert "in the outbox" in str(next(iter(recorded_jobs.jobs)))


def test_what_rolled_back_was_not_enqueued(
    recorded_jobs: RecordedMode, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    jobs = recorded_jobs.jobs
    with PatternStorageClient() as client, psycopg.connect(empty_database_url) as connection:
        lost = client.submit_in(connection, make_contract(data=make_pattern(pattern_name="Lost")))
        # Under Django's TestCase a transaction never ends.
        jobs.assert_enqueued(pattern_name="Lost", outbox=True)
        assert lost.status() == "QUEUED"
        connection.rollback()
        jobs.assert_not_enqueued()
        assert (len(jobs), lost.status()) == (0, "UNKNOWN")
        kept = client.submit_in(connection, make_contract())
        connection.commit()
        assert jobs.ids() == [kept.correlation_id]
        # Another server, or none, knows nothing of it.
        client.submit_in(connection, make_contract())
        connection.rollback()
        monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
        assert len(jobs) == 3
        monkeypatch.delenv("DATABASE_URL")
        assert len(jobs) == 3
    [(_, number)] = {job.transaction for job in jobs if job.contract.correlation_id == kept.correlation_id}  # type: ignore[misc]
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    assert rolled_back([Transaction("another server", number), Transaction("another server", "9" * 15)]) == set()


async def test_what_rolled_back_by_await_was_not_enqueued(
    recorded_jobs: RecordedMode, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    async with (
        AsyncPatternStorageClient() as client,
        await psycopg.AsyncConnection.connect(empty_database_url) as connection,
    ):
        await client.submit_in(connection, make_contract())
        await connection.rollback()
        kept = await client.submit_in(connection, make_contract())
    assert recorded_jobs.jobs.ids() == [kept.correlation_id]
