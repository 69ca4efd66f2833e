"""What a scrape says of imports comes from PostgreSQL: of runs that failed, wait or never were, whoever did them."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from pattern_storage.config.settings import Settings
from pattern_storage.storage import import_health, import_runs, import_schedules
from pattern_storage.storage.import_health import ImportHealth
from pattern_storage.storage.import_runs import Counts
from pattern_storage.tasks.client import PatternStorageClient
from pattern_storage.tasks.imports.publisher import publish_runs
from pattern_storage.tasks.observability.metrics.servers import ServersCollector
from pattern_storage.tasks.sender import create_app
from pattern_storage.vocabulary import ImportRunState
from tests.fix_celery import StartWorker
from tests.fix_imports import make_plan, patterns, queue_run, write_lines
from tests.fix_metrics import Scrape, free_port
from tests.fix_process import wait_until
from tests.fix_storage import Connection


async def add(connection: Connection, name: str, state: str = "queued", *, due: timedelta | None = None) -> None:
    """Note a run, due so long ago, and how it ended."""
    run_id = uuid4()
    await import_runs.add(connection, run_id, name, None if due is None else datetime.now(UTC) - due, {})
    if state != "queued":
        await import_runs.finish(connection, run_id, ImportRunState(state), Counts())


async def measured(connection: Connection) -> dict[str, ImportHealth]:
    return {state.name: state for state in await import_health.measure(connection)}


async def test_the_last_run_that_was_done_decides(connection: Connection) -> None:
    """A file that somebody imported by hand is theirs, and was told to them."""
    for name, states in {
        "good": ["failed", "done"],
        "unchanged": ["failed", "unchanged"],
        "bad": ["done", "failed"],
        "/tmp/nothere.csv": ["failed"],
        "never-good": ["failed"],
        "still-bad": ["done", "failed", "overlapped", "cancelled", "missed", "queued"],
        "new": ["queued"],
    }.items():
        for state in states:
            await add(connection, name, state)
    found = await measured(connection)
    assert {name: state.failed for name, state in found.items()} == {
        "good": False, "unchanged": False, "bad": True, "never-good": True, "still-bad": True, "new": False,
    }  # fmt: skip
    assert {name for name, state in found.items() if state.last_success is None} == {"never-good", "new"}
    now = datetime.now(UTC).timestamp()
    assert found["still-bad"].last_success == pytest.approx(now, abs=3_600)


async def test_the_oldest_open_run_counts_from_when_it_was_due(connection: Connection) -> None:
    await add(connection, "late", due=timedelta(hours=2))
    await add(connection, "late", due=timedelta(hours=5))
    await add(connection, "late", "done", due=timedelta(hours=9))
    await add(connection, "early", due=timedelta(hours=-1))
    await add(connection, "by-hand")
    await connection.execute("UPDATE import_runs SET queued_at = now() - interval '3 days' WHERE name = 'by-hand'")
    await add(connection, "ended", "failed", due=timedelta(hours=2))
    found = await measured(connection)
    hours = {name: state.open / 3_600 for name, state in found.items()}
    assert hours == {"late": pytest.approx(5, abs=0.5), "early": 0, "by-hand": pytest.approx(72, abs=0.5), "ended": 0}


async def test_an_import_that_is_gone_is_forgotten_after_a_week(connection: Connection) -> None:
    for name in ("gone", "scheduled"):
        await add(connection, name, "failed")
    await add(connection, "waiting")
    await connection.execute("UPDATE import_runs SET queued_at = now() - interval '8 days'")
    await add(connection, "recent", "failed")
    await connection.execute("INSERT INTO import_schedules VALUES ('scheduled', now()), ('first', now())")
    assert set(await measured(connection)) == {"scheduled", "first", "waiting", "recent"}


async def test_beat_lives_as_long_as_it_looks_at_its_schedules(connection: Connection, database_url: str) -> None:
    def age() -> float | None:
        families = {family.name: family for family in ServersCollector(Settings(database_url=database_url)).collect()}
        family = families.get("pattern_storage_import_schedules_age_seconds")
        return None if family is None else family.samples[0].value

    async def look(*names: str) -> None:
        async with connection.transaction():
            await import_schedules.lock(connection, names, datetime.now(UTC))

    assert await asyncio.to_thread(age) is None
    # A schedule that is due once a day: nothing is decided, and yet somebody is there.
    await look("daily", "hourly")
    await connection.execute("UPDATE import_schedules SET looked_at = now() - interval '2 hours'")
    assert await asyncio.to_thread(age) == pytest.approx(7_200, abs=1_800)
    await look("daily")
    assert await asyncio.to_thread(age) == pytest.approx(7_200, abs=1_800), "hourly still waits"
    await look("hourly")
    assert await asyncio.to_thread(age) == pytest.approx(0, abs=1_800)


def test_two_workers_say_the_same_of_a_run_that_failed(
    start_worker: StartWorker,
    client: PatternStorageClient,
    database_url: str,
    redis_url: str,
    tmp_path: Path,
) -> None:
    """An imports worker that fails a run, and another that has done none: what the first says is counted, too."""
    ports = [free_port(tmp_path), free_port(tmp_path)]
    start_worker(pool="threads", queues=("imports",), env={"PATTERN_STORAGE_METRICS_PORT": str(ports[0])})
    start_worker(pool="threads", queues=("storage",), env={"PATTERN_STORAGE_METRICS_PORT": str(ports[1])})

    def says(name: str, /, **labels: str) -> list[float]:
        return [Scrape(port).value(name, **labels) for port in ports]

    failing = queue_run(database_url, redis_url, make_plan(write_lines(tmp_path / "bad.jsonl", [{}])))
    assert not client.get(failing).result(timeout=60).success
    assert says("import_last_failed", name="nightly") == [1, 1]
    counted = {"operation": "import", "outcome": "failure", "error_type": "bad_rows"}
    wait_until(lambda: says("jobs_total", **counted) == [1, 0], "the failure is counted once")
    good = queue_run(database_url, redis_url, make_plan(write_lines(tmp_path / "good.jsonl", patterns(1))))
    assert client.get(good).result(timeout=60).success
    assert says("import_last_failed", name="nightly") == [0, 0]
    assert all(value > 1e9 for value in says("import_last_success_timestamp_seconds", name="nightly"))
    # A run that was cancelled while it waited.
    plan, cancelled = make_plan(tmp_path / "none.jsonl"), uuid4()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO import_runs (run_id, name, plan) VALUES (%s, 'nightly', %s)",
            [cancelled, Jsonb(plan.content)],
        )
    wait_until(lambda: min(says("import_open_seconds", name="nightly")) > 0, "it is open")
    settings = Settings(database_url=database_url, redis_url=redis_url)
    with PatternStorageClient(database_url=database_url, redis_url=redis_url) as archivist:
        assert archivist.get(cancelled).cancel().metadata["error_type"] == "revoked"
    with closing(create_app(settings)) as app:
        publish_runs(app, [(cancelled, "nightly", None)])
    counted = {"operation": "import", "outcome": "revoked", "error_type": "revoked"}
    wait_until(lambda: says("jobs_total", **counted) == [1, 0], "it is counted")
    assert says("import_last_failed", name="nightly") == [0, 0]
