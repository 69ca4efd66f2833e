"""What becomes a run of an import: due times that come, that were missed, and that several beats decide at once."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pattern_storage.storage import import_runs, ledger, open_runs, pauses
from pattern_storage.storage.errors import RunOpen
from pattern_storage.storage.pauses import Pausable
from pattern_storage.tasks.imports.plan import planner as planner_module
from pattern_storage.tasks.imports.plan.model import ImportEntry
from pattern_storage.tasks.imports.plan.planner import decide
from tests.fix_storage import Connection

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def at(hours: float = 0, minutes: float = 0, seconds: float = 0) -> datetime:
    return NOON + timedelta(hours=hours, minutes=minutes, seconds=seconds)


def entry(name: str = "hourly", **changes: Any) -> ImportEntry:
    given = {"name": name, "source": "/srv/a.jsonl"} | ({} if "schedule" in changes else {"every": "1h"}) | changes
    return ImportEntry.model_validate(given)


def named(*entries: ImportEntry) -> dict[str, ImportEntry]:
    return {one.name: one for one in entries}


async def runs(connection: Connection) -> list[tuple[str, datetime | None, str]]:
    cursor = await connection.execute("SELECT name, due, state FROM import_runs ORDER BY due, name")
    return [(row["name"], row["due"], row["state"]) for row in await cursor.fetchall()]


async def test_a_due_time_becomes_one_run(connection: Connection) -> None:
    entries = named(entry())
    # Nothing was missed before it was first seen.
    wake = await decide(connection, entries, at(minutes=10))
    assert wake == at(minutes=10, seconds=planner_module.POLL_INTERVAL)
    assert await decide(connection, entries, at(minutes=59, seconds=55)) == at(hours=1)
    assert await runs(connection) == []
    for _ in range(2):
        await decide(connection, entries, at(hours=1))
    await decide(connection, entries, at(hours=1, seconds=5))
    assert await runs(connection) == [("hourly", at(hours=1), "queued")]
    cursor = await connection.execute("SELECT run_id, plan FROM import_runs")
    row = await cursor.fetchone()
    assert row
    assert row["run_id"] == import_runs.scheduled_run_id("hourly", at(hours=1))
    assert row["plan"] == entries["hourly"].content
    await decide(connection, entries, at(hours=2, seconds=59))
    assert [due for _, due, _ in await runs(connection)] == [at(hours=1), at(hours=2)]


@pytest.mark.parametrize("schedule", [{"every": "1h"}, {"schedule": "0 * * * *", "timezone": "Asia/Tokyo"}])
async def test_misfire_once_makes_up_for_all_with_one_run(connection: Connection, schedule: dict[str, str]) -> None:
    entries = named(entry(misfire="once", **schedule))
    await decide(connection, entries, at(minutes=10))
    await decide(connection, entries, at(hours=5, minutes=30))
    assert await runs(connection) == [("hourly", at(hours=5), "queued")]
    await decide(connection, entries, at(hours=6))
    assert [due for _, due, _ in await runs(connection)] == [at(hours=5), at(hours=6)]


async def test_misfire_skip_says_what_was_missed(connection: Connection) -> None:
    entries = named(entry(misfire="skip"))
    await decide(connection, entries, at(minutes=10))
    await decide(connection, entries, at(hours=5, minutes=30))
    assert await runs(connection) == [("hourly", at(hours=5), "missed")]
    [run] = await import_runs.history(connection)
    assert run.error == "no beat ran when this was due, from 2026-05-04 13:00:00 to 2026-05-04 17:00:00 UTC"
    assert run.finished_at is not None
    await decide(connection, entries, at(hours=6, seconds=30))
    assert (await runs(connection))[1:] == [("hourly", at(hours=6), "queued")]


@pytest.mark.parametrize("misfire", ["skip", "once"])
async def test_a_little_late_is_not_missed(connection: Connection, misfire: str) -> None:
    entries = named(entry(misfire=misfire))
    await decide(connection, entries, at(minutes=10))
    await decide(connection, entries, at(hours=1) + planner_module.MISFIRE_GRACE_TIME)
    assert await runs(connection) == [("hourly", at(hours=1), "queued")]


async def test_another_schedule_goes_on_from_the_last_decision(connection: Connection) -> None:
    await decide(connection, named(entry()), at(minutes=10))
    # Due at half past twelve, one, half past one and two: one run makes up for them.
    await decide(connection, named(entry(every="30m")), at(hours=2, minutes=10))
    assert await runs(connection) == [("hourly", at(hours=2), "queued")]
    await decide(connection, named(entry(every="30m")), at(hours=2, minutes=30))
    assert (await runs(connection))[1:] == [("hourly", at(hours=2, minutes=30), "overlapped")]


async def test_at_most_one_run_is_open(connection: Connection, database_url: str) -> None:
    entries = named(entry(every="1m"))
    await decide(connection, entries, at())
    for minute in range(1, 21):
        await decide(connection, entries, at(minutes=minute))
    assert [state for _, _, state in await runs(connection)] == ["queued"] + ["overlapped"] * 19
    [newest, *_] = await import_runs.history(connection)
    present = await open_runs.find_open(connection, "hourly")
    assert present is not None
    assert newest.error == f"run {present.run_id} of 'hourly' has not ended yet"
    with pytest.raises(RunOpen, match="has not ended yet"):
        await open_runs.start(connection, "hourly", {})
    await ledger.cancel(connection, present.run_id)
    await decide(connection, entries, at(minutes=21))
    assert [run.due for run in await open_runs.list_open(connection)] == [at(minutes=21)]
    # Two who start one at the same time: one of them hears of the other's.
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        found = await asyncio.gather(
            *(open_runs.start(each, "weekly", {}) for each in (connection, other)), return_exceptions=True
        )
    assert sorted(type(each).__name__ for each in found) == ["RunOpen", "UUID"]


async def test_a_paused_import_has_no_runs_and_nothing_makes_up_for_them(connection: Connection) -> None:
    entries = named(entry(misfire="once"), entry("other"))
    await decide(connection, entries, at(minutes=10))
    await pauses.pause(connection, Pausable.IMPORT, "hourly", actor="ann")
    await decide(connection, entries, at(hours=1))
    await decide(connection, entries, at(hours=3, minutes=10))
    assert {name for name, _, _ in await runs(connection)} == {"other"}
    await pauses.resume(connection, Pausable.IMPORT, "hourly")
    await decide(connection, entries, at(hours=3, minutes=20))
    await decide(connection, entries, at(hours=4))
    assert [due for name, due, _ in await runs(connection) if name == "hourly"] == [at(hours=4)]


async def test_two_beats_whose_files_differ(connection: Connection) -> None:
    """A file is rolled out host by host: what either of them has is run."""
    old, new = named(entry(every="1h")), named(entry(every="40m"))
    for seconds in range(600, 4 * 3_600, 60):
        await decide(connection, old, at(seconds=seconds))
        await decide(connection, new, at(seconds=seconds + 30))
    due = [moment for _, moment, _ in await runs(connection)]
    assert due == [at(minutes=minutes) for minutes in (40, 60, 80, 120, 160, 180, 200)]


@pytest.mark.parametrize("misfire", ["skip", "once"])
async def test_a_clock_that_was_ahead_once(
    connection: Connection, misfire: str, caplog: pytest.LogCaptureFixture
) -> None:
    entries = named(entry(misfire=misfire))
    await decide(connection, entries, at(minutes=10))
    await decide(connection, entries, at(hours=700))
    await decide(connection, entries, at(minutes=50))
    assert "hourly was decided until 2026-06-02 16:00:00+00:00, still to come" in caplog.text
    for hour in (1, 2, 3):
        await decide(connection, entries, at(hours=hour, seconds=1))
    assert [due for _, due, _ in await runs(connection)] == [at(hours=hour) for hour in (1, 2, 3, 700)]


async def test_two_beats_decide_each_time_once(connection: Connection, database_url: str) -> None:
    """While one has the schedule locked the other leaves it, and comes back soon."""
    entries = named(entry("a"), entry("b"))
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        await decide(connection, entries, at(minutes=10))
        async with other.transaction():
            await other.execute("SELECT * FROM import_schedules WHERE name = 'a' FOR UPDATE")
            wake = await decide(connection, entries, at(hours=1))
            assert wake == at(hours=1, seconds=planner_module.LOCKED_POLL_INTERVAL)
            assert await runs(connection) == [("b", at(hours=1), "queued")]
        for hour in range(1, 6):
            await asyncio.gather(*(decide(each, entries, at(hours=hour)) for each in (connection, other)))
            # Whoever found it locked looks again.
            await decide(connection, entries, at(hours=hour, seconds=1))
    assert [due for name, due, _ in await runs(connection) if name == "a"] == [at(hours=hour) for hour in range(1, 6)]
    assert [due for name, due, _ in await runs(connection) if name == "b"] == [at(hours=hour) for hour in range(1, 6)]


async def test_clocks_that_differ(connection: Connection) -> None:
    entries = named(entry())
    await decide(connection, entries, at(minutes=10))
    await decide(connection, entries, at(hours=1))
    await decide(connection, entries, at(minutes=59, seconds=30))
    await decide(connection, entries, at(hours=1))
    assert len(await runs(connection)) == 1
