"""Planner of imports: inserts runs that are due, handles misfires, and publishes runs that are not queued.

Any number of beats may do this at the same time: deciding locks the schedule's row, the run's id follows from name and
due time, and the beat that locks a run's row publishes it.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from celery import Celery

from pattern_storage.config.settings import Settings
from pattern_storage.storage import import_runs, import_schedules, open_runs, pauses
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.pauses import Pausable
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.translation import translate
from pattern_storage.tasks.database import Database
from pattern_storage.tasks.errors import ServiceUnavailable
from pattern_storage.tasks.imports.plan.model import ImportEntry
from pattern_storage.tasks.imports.plan.schedule import Schedule
from pattern_storage.tasks.imports.publisher import publish_runs
from pattern_storage.tasks.reconnect import ReconnectBackoff
from pattern_storage.vocabulary import ImportRunState

logger = get_logger(__name__)

#: Due times older than this when they are decided are misfires: no beat ran at the time.
MISFIRE_GRACE_TIME = timedelta(seconds=60)

#: Seconds between two queries for runs to publish.
POLL_INTERVAL = 10.0

#: Seconds until the next attempt at a schedule whose row another beat had locked.
LOCKED_POLL_INTERVAL = 0.5


class Planner:
    """Plans the imports of a file for beat: decides due times, then publishes runs by the Celery application."""

    def __init__(self, settings: Settings, entries: Sequence[ImportEntry], app: Celery) -> None:
        self._delay = settings.relay_republish_delay
        self._database = Database(settings)
        self._entries = {entry.name: entry for entry in entries if entry.enabled and entry.due is not None}
        self._app = app
        self._forgot_removed = False
        #: The next time that something may have to be done, by the monotonic clock.
        self._wake = 0.0
        self._backoff = ReconnectBackoff("cannot decide what is due", "imports")

    def tick(self) -> float:
        """Plan and publish, and return the seconds until the next call; servers that are down are logged."""
        if time.monotonic() >= self._wake:
            try:
                seconds = asyncio.run(self._database.run(self._plan))
                self._publish()
                self._backoff.succeeded()
            except Exception as raised:
                error = raised if isinstance(raised, ServiceUnavailable) else translate(raised)
                seconds = self._backoff.failed(error)
            self._wake = time.monotonic() + seconds
        return max(self._wake - time.monotonic(), 0.001)

    async def _plan(self, connection: Connection) -> float:
        """Insert runs that are due; return the seconds until the next may be."""
        if not self._forgot_removed:
            # An import that is disabled or removed has no misfires when it comes back.
            await import_schedules.forget(connection, except_for=self._entries)
            self._forgot_removed = True
        wake = await decide(connection, self._entries, await import_schedules.server_time(connection))
        return (wake - await import_schedules.server_time(connection)).total_seconds()

    def _publish(self) -> None:
        """Publish runs that are not on the queue. No transaction is open meanwhile: the broker may be slow."""
        runs = asyncio.run(self._database.run(self._claim))
        if not runs:
            return
        try:
            publish_runs(self._app, runs)
        except ServiceUnavailable:
            ids = [run_id for run_id, *_ in runs]
            asyncio.run(self._database.run(lambda connection: import_runs.unmark_published(connection, ids)))
            raise
        for run_id, name, due in runs:
            logger.info("imports: run %s of %s, due %s, is on the queue", run_id, name, due or "now")

    async def _claim(self, connection: Connection) -> list[tuple[UUID, str, datetime | None]]:
        """Mark runs as published and return them; if this beat dies before it sends them, they are published later."""
        async with connection.transaction():
            runs = await import_runs.claim(connection)
            await import_runs.mark_published(connection, [run_id for run_id, *_ in runs], delay=self._delay)
        return runs


async def decide(connection: Connection, entries: dict[str, ImportEntry], now: datetime) -> datetime:
    """Insert the runs that are due, and for misfires what the policy says; return the time of the next decision."""
    wake = now + timedelta(seconds=POLL_INTERVAL)
    async with connection.transaction():
        locked = await import_schedules.lock(connection, list(entries), now) if entries else []
        paused = await pauses.paused(connection, Pausable.IMPORT)
        for schedule in locked:
            entry, decided = entries[schedule.name], schedule.decided_until
            due = entry.due
            assert due is not None  # noqa: S101  # the planner takes no others
            if decided > now + MISFIRE_GRACE_TIME:
                logger.warning(
                    "imports: %s was decided until %s, still to come: a clock was wrong; it goes on from now",
                    entry.name, decided,
                )  # fmt: skip
                decided = now
                await import_schedules.decide(connection, entry.name, now)
            decided = await _decide_one(connection, entry, due, decided, now, is_paused=entry.name in paused)
            if following := due.after(decided):
                wake = min(wake, following)
    if len(locked) < len(entries):
        wake = min(wake, now + timedelta(seconds=LOCKED_POLL_INTERVAL))
    return wake


async def _decide_one(
    connection: Connection, entry: ImportEntry, due: Schedule, decided: datetime, now: datetime, *, is_paused: bool
) -> datetime:
    """Decide the due times after `decided`; return the time up to which they are decided now.

    An earlier schedule of the import does not matter: two beats whose files differ both go on from the last decision.
    Due times while the import is paused have no run, and are no misfires later.
    """
    last = due.until(now)
    if last is None or last <= decided:
        return decided
    run_id = import_runs.scheduled_run_id(entry.name, last)
    if is_paused:
        logger.info("imports: %s is paused: no run of %s", entry.name, last)
    elif now - last <= MISFIRE_GRACE_TIME or entry.misfire == "once":
        await open_runs.add_scheduled(connection, run_id, entry.name, last, entry.content)
    else:
        first = due.after(decided)
        error = f"no beat ran when this was due, from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC"
        state = ImportRunState.MISSED
        await import_runs.add_skipped(connection, run_id, entry.name, last, entry.content, state, error)
    await import_schedules.decide(connection, entry.name, last)
    return last
