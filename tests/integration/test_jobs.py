"""Job lists: what each table knows of a job, one list in keyset pages, filters, and hostile ones."""

from uuid import UUID, uuid4

import pytest
from psycopg.rows import scalar_row
from psycopg.sql import SQL

from pattern_storage.storage import attempts, dead_letter_pages, dead_letters, jobs, ledger, open_jobs, outbox
from pattern_storage.storage.dead_letters import LetterFilter
from pattern_storage.storage.job_details import find_job
from pattern_storage.storage.job_filter import Cursor, JobFilter
from pattern_storage.storage.job_row import JobRow
from pattern_storage.storage.model_contract_pattern_storage import ModelResult
from pattern_storage.storage.sql import block
from pattern_storage.vocabulary import ListedState
from tests.fix_jobs import SENT, Connection
from tests.fix_open_jobs import all_jobs
from tests.fix_storage import contract, make_pattern

NOT_ENDED = (ListedState.QUEUED, ListedState.RETRY, ListedState.DEAD)


async def listed(connection: Connection, **given: str) -> list[JobRow]:
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
    paged: list[JobRow] = []
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


@pytest.mark.parametrize("searched", [1, 2, 3])
@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_pages_that_search_a_part_of_the_tables_have_everything_once_and_in_order(
    reader: Connection, known: dict[str, UUID], monkeypatch: pytest.MonkeyPatch, searched: int, limit: int
) -> None:
    """However many rows of a table a page may look at: 1 to 3 of them, or all."""
    filters = [
        JobFilter(), JobFilter(operation="update"), JobFilter(pattern_name="retried"), JobFilter(states=NOT_ENDED),
        JobFilter(correlation_id=known["waiting"]), JobFilter(error_type="connection_lost"),
    ]  # fmt: skip
    for descending in (True, False):
        for wanted in filters:
            monkeypatch.setattr(open_jobs, "SEARCHED", 10_000)
            whole = await all_jobs(reader, wanted, descending=descending)
            assert whole
            monkeypatch.setattr(open_jobs, "SEARCHED", searched)
            assert await all_jobs(reader, wanted, descending=descending, limit=limit) == whole


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("limit", [4, 50])
async def test_pages_of_jobs_that_were_written_in_one_transaction(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, limit: int, descending: bool
) -> None:
    """They have one time; of a filter that only the last of them matches, too."""
    asked = [contract("insert", data=make_pattern(pattern_name=f"n{n}")) for n in range(30)]
    async with connection.transaction():
        await outbox.add(connection, *asked)
    monkeypatch.setattr(open_jobs, "SEARCHED", 7)
    found = await all_jobs(connection, JobFilter(), descending=descending, limit=limit)
    ids = [job.correlation_id for job in found]
    assert ids == sorted((one.correlation_id for one in asked), reverse=descending)
    last = found[-1]
    wanted = JobFilter(pattern_name=last.pattern_name)
    assert await all_jobs(connection, wanted, descending=descending, limit=limit) == [last]


@pytest.mark.parametrize("limit", [4, 50])
async def test_pages_of_letters_that_died_in_one_transaction(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    await connection.execute(
        "INSERT INTO dead_letters (correlation_id, contract, error_type, error, attempts, first_at, died_at)"
        " SELECT gen_random_uuid(), '{}', 'e', 'reason ' || n / 20, 5, now(), now() - n / 20 * interval '1 hour'"
        " FROM generate_series(0, 39) AS n"
    )
    monkeypatch.setattr(dead_letter_pages, "SEARCHED", 7)
    for wanted, count in ((LetterFilter(), 40), (LetterFilter(error_type="none"), 0)):
        found: list[UUID] = []
        after = None
        for _ in range(20):
            page = await dead_letter_pages.page(connection, wanted, after=after, limit=limit)
            found += [letter.correlation_id for letter in page.letters]
            if (after := page.next) is None:
                break
        assert after is None
        assert len(found) == len(set(found)) == count


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
