"""Runs of imports on the queue: published until a worker has them, whatever is slow or down."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from celery import Celery

from pattern_storage.config.settings import Settings
from pattern_storage.storage import import_locks, import_runs
from pattern_storage.tasks.errors import BrokerUnavailable
from pattern_storage.tasks.imports.plan import planner as planner_module
from pattern_storage.tasks.imports.plan.model import ImportEntry
from pattern_storage.tasks.imports.plan.planner import Planner
from tests.fix_storage import Connection


def entry(name: str = "hourly", **changes: Any) -> ImportEntry:
    given = {"name": name, "source": "/srv/a.jsonl"} | ({} if "schedule" in changes else {"every": "1h"}) | changes
    return ImportEntry.model_validate(given)


class Sent:
    """Takes the messages of a planner."""

    def __init__(self) -> None:
        self.messages: list[tuple[UUID, dict[str, Any]]] = []
        self.error: Exception | None = None

    def __call__(self, app: Celery, waiting: list[tuple[UUID, str, datetime | None]]) -> list[UUID]:
        if self.error:
            raise self.error
        self.messages += [(run_id, {"name": name, "due": due}) for run_id, name, due in waiting]
        return [run_id for run_id, *_ in waiting]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    made = Sent()
    monkeypatch.setattr(planner_module, "publish_runs", made)
    return made


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery("none", set_as_current=False) as made:
        yield made


def test_a_run_is_on_the_queue_until_somebody_has_it(database_url: str, sent: Sent, app: Celery) -> None:
    settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1", relay_republish_delay=0.001)
    planner = Planner(settings, [], app)
    with psycopg.connect(database_url, autocommit=True) as connection:
        run_id = uuid4()
        connection.execute("INSERT INTO import_runs (run_id, name, plan) VALUES (%s, 'x', '{}')", [run_id])

        def tick() -> int:
            before = len(sent.messages)
            connection.execute("UPDATE import_runs SET publish_after = now()")
            planner._wake = 0
            assert 0 < planner.tick() <= planner_module.POLL_INTERVAL
            return len(sent.messages) - before

        assert tick() == 1
        assert sent.messages == [(run_id, {"name": "x", "due": None})]
        # Nobody has taken it: its message may be lost.
        assert tick() == 1
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [import_locks.run_lock_key(run_id)])
            assert tick() == 0, "somebody does it now"
        assert tick() == 1, "whoever did it is gone"
        connection.execute("UPDATE import_runs SET state = 'done', finished_at = now()")
        assert tick() == 0


async def test_a_run_that_nobody_takes_is_published_ever_more_rarely(connection: Connection) -> None:
    run_id = uuid4()
    await import_runs.add(connection, run_id, "x", None, {})

    async def seconds() -> float:
        await import_runs.mark_published(connection, [run_id], delay=60)
        cursor = await connection.execute("SELECT extract(epoch FROM publish_after - now()) AS left FROM import_runs")
        row = await cursor.fetchone()
        assert row
        return round(float(row["left"]), -1)

    assert [await seconds() for _ in range(8)] == [60, 120, 240, 480, 960, 1920, 3840, 3840]
    # A worker is there again.
    await import_runs.begin(connection, run_id, delay=60)
    assert await seconds() == 60


def test_a_planner_survives_what_is_down(
    database_url: str, sent: Sent, app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1", connect_timeout=1)
    planner = Planner(settings, [], app)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO import_runs (run_id, name, plan) VALUES (gen_random_uuid(), 'x', '{}')")
    sent.error = BrokerUnavailable("the queue does not answer")
    with caplog.at_level("INFO"):
        assert planner.tick() < 1
        sent.error = None
        planner._wake = 0
        planner.tick()
        assert len(sent.messages) == 1, "what was not sent is not marked as sent"
        lost = Planner(settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/x"}), [], app)
        assert lost.tick() < 1
    assert "imports: cannot decide what is due: the queue does not answer" in caplog.text
    assert "imports: recovered (cannot decide what is due)" in caplog.text
    assert "Connection refused" in caplog.text


def test_a_slow_queue_takes_its_time(database_url: str, app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL has to answer soon; the queue may take longer, and is not asked again for what it has."""
    settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1", connect_timeout=0.1)
    seen: list[int] = []

    def slowly(_: Celery, waiting: list[tuple[UUID, str, datetime | None]]) -> list[UUID]:
        with psycopg.connect(database_url, autocommit=True) as other:
            # Nobody waits for it, neither a worker that begins the run nor one that ends it.
            other.execute("SET lock_timeout = '5s'")
            seen.append(other.execute("UPDATE import_runs SET state = 'running' WHERE published = 1").rowcount)
        return [run_id for run_id, *_ in waiting]

    monkeypatch.setattr(planner_module, "publish_runs", slowly)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO import_runs (run_id, name, plan) VALUES (gen_random_uuid(), 'x', '{}')")
    Planner(settings, [], app).tick()
    Planner(settings, [], app).tick()
    assert seen == [1]


def test_the_clock_is_that_of_postgresql(
    database_url: str, sent: Sent, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2050, 1, 1, tzinfo=tz)

    monkeypatch.setattr(planner_module, "datetime", Wrong)
    settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1")
    assert 0 < Planner(settings, [entry("a")], app).tick() <= planner_module.POLL_INTERVAL
    with psycopg.connect(database_url, autocommit=True) as connection:
        cursor = connection.execute("SELECT decided_until <= now() FROM import_schedules")
        assert cursor.fetchall() == [(True,)]


def test_what_is_switched_off_has_missed_nothing(database_url: str, sent: Sent, app: Celery) -> None:
    settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1")
    Planner(settings, [entry("a"), entry("b")], app).tick()
    Planner(settings, [entry("a"), entry("b", enabled=False), entry("c", every=None)], app).tick()
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert connection.execute("SELECT name FROM import_schedules").fetchall() == [("a",)]
