"""Job lists: what each table knows of a job, one list in keyset pages, filters, and hostile ones."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import scalar_row
from psycopg.sql import SQL

from pattern_storage.storage import (
    NodePatternStorageEffect,
    attempts,
    dead_letters,
    figures,
    import_runs,
    jobs,
    ledger,
    outbox,
)
from pattern_storage.storage.delivery import Delivery, delivered
from pattern_storage.storage.group import GroupConnection
from pattern_storage.storage.job_details import find_job
from pattern_storage.storage.job_filter import Cursor, JobFilter
from pattern_storage.storage.model_contract_pattern_storage import ModelResult
from pattern_storage.storage.pool import create_pool
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import ListedState
from tests.fix_storage import contract, make_pattern

Connection = psycopg.AsyncConnection[Any]


SENT = datetime.now(UTC) - timedelta(seconds=3)


CLAIMED = SENT + timedelta(seconds=1)


@pytest.fixture(scope="module")
def known(shared_database_url: str) -> dict[str, UUID]:
    """The ids of jobs of all states, which tests only read, by what is particular about each."""

    async def make() -> dict[str, UUID]:
        async with create_pool(shared_database_url) as pool, pool.connection() as connection:
            group = GroupConnection(shared_database_url, connect_timeout=5.0)
            try:
                return await make_jobs(NodePatternStorageEffect(pool), group, connection)
            finally:
                group.close()

    return asyncio.run(make())


@pytest.fixture
async def reader(shared_database_url: str, known: dict[str, UUID]) -> AsyncIterator[Connection]:
    """A connection to those jobs."""
    async with await psycopg.AsyncConnection.connect(shared_database_url, autocommit=True) as opened:
        yield opened


async def make_jobs(node: NodePatternStorageEffect, group: GroupConnection, connection: Connection) -> dict[str, UUID]:
    alone = contract("insert", data=make_pattern(pattern_name="alone"))
    grouped = [contract("insert", data=make_pattern(pattern_name=f"grouped {n}")) for n in range(3)]
    twin = contract("insert", data=make_pattern(pattern_name="grouped 0"))
    deliveries = {
        one.correlation_id: Delivery("storage", "w1@host", SENT.timestamp(), CLAIMED.timestamp())
        for one in (alone, *grouped, twin)
    }
    with delivered(deliveries):
        assert (await node.execute_once(alone)).success
        results = group.execute([*grouped, twin])
    assert [result.success for result in results if result] == [True, True, True, False]
    waiting = contract("delete", pattern_id=uuid4())
    cancelled = contract("insert", data=make_pattern(pattern_name="cancelled"))
    for one in (waiting, cancelled):
        async with connection.transaction():
            await outbox.add(connection, one)
    await ledger.cancel(connection, cancelled.correlation_id)
    failure = ModelResult.failure("no", "connection_lost", correlation_id=uuid4(), operation="insert")
    retried = contract("insert", data=make_pattern(pattern_name="retried"))
    dead = contract("update", pattern_id=uuid4(), data={"language": "go"})
    came = Delivery("storage", "w1@host", SENT.timestamp(), CLAIMED.timestamp())
    with delivered({one.correlation_id: came for one in (retried, dead)}):
        for one in (retried, dead):
            await attempts.note_failure(connection, one, failure)
        await dead_letters.add(connection, dead, failure, attempts=5)
    run = uuid4()
    await import_runs.add(connection, run, "nightly", None, {})
    return {
        "alone": alone.correlation_id, "grouped": grouped[1].correlation_id, "twin": twin.correlation_id,
        "waiting": waiting.correlation_id, "cancelled": cancelled.correlation_id, "retried": retried.correlation_id,
        "dead": dead.correlation_id, "run": run,
    }  # fmt: skip


async def listed(connection: Connection, **given: str) -> list[jobs.JobRow]:
    return (await jobs.list_jobs(connection, JobFilter.parse(given))).jobs


async def test_each_job_is_listed_once_with_what_is_known_of_it(reader: Connection, known: dict[str, UUID]) -> None:
    found = {job.correlation_id: job for job in await listed(reader)}
    assert len(found) == 10
    assert {name: found[job].state for name, job in known.items()} == {
        "alone": "SUCCESS", "grouped": "SUCCESS", "twin": "FAILURE", "waiting": "QUEUED", "cancelled": "REVOKED",
        "retried": "RETRY", "dead": "DEAD", "run": "QUEUED",
    }  # fmt: skip
    for name in ("alone", "grouped"):
        job = found[known[name]]
        assert (job.operation, job.queue, job.worker, job.attempts) == ("insert", "storage", "w1@host", 1)
        assert job.sent_at == SENT
        assert job.duration_ms is not None
        assert job.waited_ms is not None
        assert job.waited_ms > 2_000
    assert found[known["grouped"]].pattern_name == "grouped 1"
    twin = found[known["twin"]]
    assert (twin.error_type, twin.pattern_name) == ("unique_violation", "grouped 0")
    assert twin.error == "Pattern already exists: grouped 0 (function/python)"
    assert (found[known["retried"]].error, found[known["retried"]].pattern_name) == ("no", "retried")
    assert found[known["run"]].pattern_name == "nightly"


FILTERS = [
    ({"states": "failure"}, {"twin"}),
    ({"states": "FAILURE,DEAD"}, {"twin", "dead"}),
    ({"states": "SUCCESS", "pattern_name": "grouped 1"}, {"grouped"}),
    ({"operation": "delete"}, {"waiting"}),
    ({"operation": "import"}, {"run"}),
    ({"error_type": "connection_lost"}, {"retried", "dead"}),
    ({"error_type": "revoked"}, {"cancelled"}),
    ({"queue": "imports"}, {"run"}),
    ({"until": "2020-01-01"}, set()),
    ({"since": "2999-01-01T00:00:00Z"}, set()),
    ({"pattern_name": "100%_' OR true --"}, set()),
]


@pytest.mark.parametrize(("given", "names"), FILTERS)
async def test_a_filter_finds_what_it_says(
    reader: Connection, known: dict[str, UUID], given: dict[str, str], names: set[str]
) -> None:
    expected = {known[name] for name in names}
    assert {job.correlation_id for job in await listed(reader, **given)} == expected
    assert await jobs.count_jobs(reader, JobFilter.parse(given)) == len(expected)


async def test_every_job_is_found_by_its_id(reader: Connection, known: dict[str, UUID]) -> None:
    for job in known.values():
        assert [found.correlation_id for found in await listed(reader, correlation_id=str(job))] == [job]


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort", ["time", "duration"])
async def test_pages_have_everything_once_and_in_order(reader: Connection, sort: str, descending: bool) -> None:
    everything = JobFilter()
    whole = (await jobs.list_jobs(reader, everything, sort=sort, descending=descending)).jobs
    paged: list[jobs.JobRow] = []
    after = None
    while True:
        page = await jobs.list_jobs(reader, everything, sort=sort, descending=descending, after=after, limit=3)
        paged += page.jobs
        if page.next is None:
            break
        after = Cursor.parse(str(page.next), sort)
    assert paged == whole
    assert len(whole) == (10 if sort == "time" else 5)
    assert len(await listed(reader)) == await jobs.count_jobs(reader, everything)


async def test_the_slowest_come_first_whether_the_index_of_slow_jobs_has_enough_or_not(connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO job_ledger (correlation_id, result, state, operation, duration_ms)"
        " SELECT gen_random_uuid(), '{}', 'SUCCESS', 'insert', n * 10 FROM generate_series(1, 20) AS n"
    )
    for limit in (5, 11, 15, 50):
        page = await jobs.list_jobs(connection, JobFilter(), sort="duration", limit=limit)
        assert [job.duration_ms for job in page.jobs] == [n * 10.0 for n in range(20, max(20 - limit, 0), -1)]
    after = (await jobs.list_jobs(connection, JobFilter(), sort="duration", limit=9)).next
    page = await jobs.list_jobs(connection, JobFilter(), sort="duration", after=after, limit=4)
    assert [job.duration_ms for job in page.jobs] == [110.0, 100.0, 90.0, 80.0]


async def test_a_name_is_looked_for_in_an_index_alone(connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO job_ledger (correlation_id, result, state, operation, pattern_name)"
        " SELECT gen_random_uuid(), '{}', 'SUCCESS', 'insert', 'n' || n FROM generate_series(1, 3000) AS n"
    )
    await connection.execute("ANALYZE job_ledger")
    # Of so few rows reading all of them would be as cheap.
    await connection.execute("SET enable_seqscan = off")
    for wanted in (JobFilter(pattern_name="n7"), JobFilter(pattern_name="of none")):
        statement = SQL(block("list_ended_jobs")).format(
            filters=SQL(block("job_has_pattern_name")), order=SQL("job_ledger.finished_at"), direction=SQL("DESC")
        )
        values = {"pattern_name": wanted.pattern_name, "limit": 50}
        cursor = connection.cursor(row_factory=scalar_row)
        await cursor.execute(SQL("EXPLAIN (ANALYZE, FORMAT JSON) {}").format(statement), values)
        [[found]] = await cursor.fetchall()
        scan = found["Plan"]["Plans"][0]
        assert (scan["Index Name"], scan.get("Rows Removed by Filter", 0)) == ("job_ledger_finished_at_id", 0)
        assert "hashtext" in scan["Index Cond"]
        assert await jobs.count_jobs(connection, wanted) == (wanted.pattern_name == "n7")


async def test_a_job_that_two_tables_know_is_listed_and_counted_once(connection: Connection) -> None:
    waiting, dead, done = (contract("insert", data=make_pattern()) for _ in range(3))
    failure = ModelResult.failure("gone", "connection_lost", correlation_id=uuid4(), operation="insert")
    async with connection.transaction():
        await outbox.add(connection, waiting)
    await dead_letters.add(connection, dead, failure, attempts=5)
    await ledger.record(connection, done, ModelResult(success=True, metadata={"operation": "insert"}))
    for job in (waiting, dead, done):
        await attempts.note_failure(connection, job, failure)
    states = {waiting.correlation_id: "RETRY", dead.correlation_id: "DEAD", done.correlation_id: "SUCCESS"}
    for wanted in (JobFilter(), *(JobFilter(states=(state,)) for state in ListedState)):
        expected = {job: state for job, state in states.items() if wanted.among(ListedState(state))}
        after = None
        found = []
        while page := await jobs.list_jobs(connection, wanted, after=after, limit=1):
            found += page.jobs
            if not (after := page.next):
                break
        assert {job.correlation_id: job.state for job in found} == expected
        assert len(found) == await jobs.count_jobs(connection, wanted) == len(expected)


async def test_the_timeline_of_a_job(reader: Connection, known: dict[str, UUID]) -> None:
    whats = {}
    for name, job in known.items():
        found = await find_job(reader, job)
        assert found is not None
        whats[name] = [event.what for event in found.events]
        assert found.can_be_retried == (name in ("twin", "cancelled"))
        assert found.is_dead_letter == (name == "dead")
        assert found.is_import == (name == "run")
        assert (found.pattern_id is not None) == (name in ("alone", "grouped"))
    assert whats == {
        "alone": ["submitted", "claimed", "started", "committed"],
        "grouped": ["submitted", "claimed", "started", "committed"],
        "twin": ["submitted", "claimed", "started", "FAILURE"], "waiting": ["submitted"],
        "cancelled": ["submitted", "REVOKED"],
        "retried": ["submitted", "claimed", "attempt failed"],
        "dead": ["submitted", "claimed", "attempt failed", "attempt failed", "DEAD"], "run": ["submitted"],
    }  # fmt: skip
    assert await find_job(reader, uuid4()) is None


async def test_figures_of_the_last_hour(reader: Connection) -> None:
    seconds, spans = figures.HOUR
    found = await figures.rates(reader, seconds=seconds, spans=spans)
    assert len(found) == spans
    assert [(span.jobs, span.failures, span.cancelled) for span in found if span.jobs]
    assert sum(span.jobs for span in found) == 6
    assert (sum(span.failures for span in found), sum(span.cancelled for span in found)) == (1, 1)
    quantiles = await figures.quantiles(reader, seconds=3_600)
    assert quantiles.waited is not None
    assert 2_000 < quantiles.waited[0] <= quantiles.waited[1]


async def test_an_empty_ledger_has_no_figures(connection: Connection) -> None:
    assert await figures.quantiles(connection, seconds=60) == figures.Quantiles(None, None)
    (span,) = await figures.rates(connection, seconds=60, spans=1)
    assert (span.jobs, span.duration, span.waited) == (0, None, None)


async def test_a_job_without_a_time_of_sending_has_no_part_in_how_long_jobs_waited(
    node: NodePatternStorageEffect, connection: Connection
) -> None:
    assert (await node.execute_once(contract("insert", data=make_pattern()))).success
    quantiles = await figures.quantiles(connection, seconds=600)
    assert (quantiles.duration is None, quantiles.waited) == (False, None)
    (span,) = await figures.rates(connection, seconds=600, spans=1)
    assert (span.jobs, span.duration is None, span.waited) == (1, False, None)
