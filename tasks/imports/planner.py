"""Decides which due times become runs, and sees that each run that is to be is on the queue.

Any number of beats may do this at the same time: a decision locks the schedule's row, the run's id follows from name
and due time, and a run is put on the queue by whoever locks its row.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from celery import Celery

from config.settings import Settings
from storage import import_runs
from storage.import_runs import Schedule
from storage.logs import get_logger
from storage.operations.base import Connection
from storage.translation import translate
from tasks.client.archive import Archive
from tasks.errors import ServiceUnavailable
from tasks.imports.plan import ImportEntry
from tasks.imports.publisher import publish
from tasks.trouble import Trouble

logger = get_logger(__name__)

#: A run that begins to be decided so long after its due time was missed: no beat was there.
GRACE = timedelta(seconds=60)

#: Seconds after which runs that are not on the queue any more are looked for, and the clock is trusted again.
INTERVAL = 10.0

#: Seconds until a schedule is looked at again that another beat was deciding.
SOON = 0.5


class Planner:
    """What beat does for imports.

    Args:
        settings: PostgreSQL, and after how many seconds a run that is neither done nor held is published again.
        entries: the imports file's.
        app: sends.
    """

    def __init__(self, settings: Settings, entries: Sequence[ImportEntry], app: Celery) -> None:
        self._delay = settings.relay_republish_delay
        self._archive = Archive(settings)
        self._entries = {entry.name: entry for entry in entries if entry.enabled and entry.due is not None}
        self._app = app
        self._wake: datetime | None = None
        self._trouble = Trouble("cannot plan", "imports")

    def tick(self) -> float:
        """Do what is to be done now, and return the seconds until there may be more; survives servers that are down."""
        now = datetime.now(UTC)
        if self._wake is None or now >= self._wake or self._wake > now + timedelta(seconds=INTERVAL):
            try:
                asyncio.run(self._archive.ask(lambda connection: self._plan(connection, now)))
                self._trouble.is_over()
            except Exception as raised:
                # What is no error of PostgreSQL's comes back as the cause of one.
                cause = raised.__cause__
                error = cause if isinstance(cause, ServiceUnavailable) else translate(raised)
                self._wake = now + timedelta(seconds=self._trouble.next_try(error))
        assert self._wake is not None  # noqa: S101  # both ways set it
        return max((self._wake - datetime.now(UTC)).total_seconds(), 0.001)

    async def _plan(self, connection: Connection, now: datetime) -> None:
        if self._wake is None:
            # Whatever is switched off or gone from the file has nothing to make up for when it comes back.
            await import_runs.forget_schedules(connection, except_for=self._entries)
        wake = await decide(connection, self._entries, now)
        async with connection.transaction():
            if waiting := await import_runs.claim(connection):
                await import_runs.mark_published(connection, publish(self._app, waiting), delay=self._delay)
                for run_id, name, due in waiting:
                    logger.info("imports: run %s of %s, due %s, is on the queue", run_id, name, due or "now")
        self._wake = wake


async def decide(connection: Connection, entries: dict[str, ImportEntry], now: datetime) -> datetime:
    """Make a run of every due time that has come, or of those that were missed what `misfire` says.

    Returns when to look again.
    """
    wake = now + timedelta(seconds=INTERVAL)
    async with connection.transaction():
        texts = {name: entry.when for name, entry in entries.items()}
        locked = await import_runs.lock_schedules(connection, texts, now) if texts else []
        for schedule in locked:
            entry = entries[schedule.name]
            if schedule.schedule != entry.when:
                # Another schedule than before: its times begin now.
                schedule = Schedule(entry.name, entry.when, now)
                await import_runs.decide(connection, schedule)
            until = await _decide_one(connection, entry, schedule, now)
            assert entry.due is not None  # noqa: S101  # only such entries are planned
            if following := entry.due.after(until):
                wake = min(wake, following)
    if len(locked) < len(entries):
        wake = min(wake, now + timedelta(seconds=SOON))
    return wake


async def _decide_one(connection: Connection, entry: ImportEntry, schedule: Schedule, now: datetime) -> datetime:
    """Decide what has become due since the schedule was last decided; return until when it is decided now."""
    last = entry.due.until(now) if entry.due else None
    if last is None or last <= schedule.decided_until:
        return schedule.decided_until
    run_id = import_runs.id_of(entry.name, last)
    if now - last <= GRACE or entry.misfire == "once":
        await import_runs.add(connection, run_id, entry.name, last, entry.content)
    else:
        first = entry.due.after(schedule.decided_until) if entry.due else None
        error = f"no beat ran when this was due, from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC"
        await import_runs.add_missed(connection, run_id, entry.name, last, entry.content, error)
    await import_runs.decide(connection, Schedule(entry.name, entry.when, last))
    return last
