"""Planner of imports: makes runs of due times that have come, handles misfires, and publishes runs that are not queued.

Any number of beats may do this at the same time: a decision locks the schedule's row, the run's id follows from name
and due time, and the beat that locks a run's row publishes it.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from celery import Celery

from pattern_storage.config.settings import Settings
from pattern_storage.storage import import_runs, import_schedules, open_runs, pauses
from pattern_storage.storage.import_schedules import ScheduleState
from pattern_storage.storage.logs import get_logger
from pattern_storage.storage.pauses import Pausable
from pattern_storage.storage.rows import Connection
from pattern_storage.storage.translation import translate
from pattern_storage.tasks.database import Database
from pattern_storage.tasks.errors import ServiceUnavailable
from pattern_storage.tasks.imports.plan.model import ImportEntry
from pattern_storage.tasks.imports.publisher import publish_runs
from pattern_storage.tasks.reconnect import ReconnectBackoff

logger = get_logger(__name__)

#: Due times older than this when they are decided are misfires: no beat ran at the time.
MISFIRE_GRACE_TIME = timedelta(seconds=60)

#: Seconds between two looks for runs to publish.
POLL_INTERVAL = 10.0

#: Seconds until the next look at a schedule whose row another beat had locked.
LOCKED_POLL_INTERVAL = 0.5


class Planner:
    """Plans imports for beat: decides due times, then publishes runs.

    Args:
        settings: PostgreSQL, and after how many seconds a run that is neither done nor held is published again.
        entries: of the imports file.
        app: publishes.
    """

    def __init__(self, settings: Settings, entries: Sequence[ImportEntry], app: Celery) -> None:
        self._delay = settings.relay_republish_delay
        self._database = Database(settings)
        self._entries = {entry.name: entry for entry in entries if entry.enabled and entry.due is not None}
        self._app = app
        self._forgot_removed = False
        #: When there may be something to do again, by the monotonic clock.
        self._wake = 0.0
        self._backoff = ReconnectBackoff("cannot plan", "imports")

    def tick(self) -> float:
        """Do what is to be done now, and return the seconds until there may be more; survives servers that are down."""
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
        """Make runs of what is due; return the seconds until there may be more."""
        if not self._forgot_removed:
            # Whatever is switched off or gone from the file has nothing to make up for when it comes back.
            await import_schedules.forget(connection, except_for=self._entries)
            self._forgot_removed = True
        wake = await decide(connection, self._entries, await import_schedules.server_time(connection))
        return (wake - await import_schedules.server_time(connection)).total_seconds()

    def _publish(self) -> None:
        """Publish runs that are not on the queue, with no transaction open meanwhile, however slow the broker is."""
        waiting = asyncio.run(self._database.run(self._claim))
        if not waiting:
            return
        try:
            publish_runs(self._app, waiting)
        except ServiceUnavailable:
            ids = [run_id for run_id, *_ in waiting]
            asyncio.run(self._database.run(lambda connection: import_runs.unmark_published(connection, ids)))
            raise
        for run_id, name, due in waiting:
            logger.info("imports: run %s of %s, due %s, is on the queue", run_id, name, due or "now")

    async def _claim(self, connection: Connection) -> list[tuple[UUID, str, datetime | None]]:
        """Mark the runs to publish now; if this beat dies before it has sent them, they are published again later."""
        async with connection.transaction():
            waiting = await import_runs.claim(connection)
            await import_runs.mark_published(connection, [run_id for run_id, *_ in waiting], delay=self._delay)
        return waiting


async def decide(connection: Connection, entries: dict[str, ImportEntry], now: datetime) -> datetime:
    """Make a run of every due time that has come, or of those that were missed what `misfire` says.

    Returns when to look again.
    """
    wake = now + timedelta(seconds=POLL_INTERVAL)
    async with connection.transaction():
        locked = await import_schedules.lock(connection, list(entries), now) if entries else []
        paused = await pauses.paused(connection, Pausable.IMPORT)
        for schedule in locked:
            entry = entries[schedule.name]
            if schedule.decided_until > now + MISFIRE_GRACE_TIME:
                logger.warning(
                    "imports: %s was decided until %s, still to come: a clock was wrong; it goes on from now",
                    entry.name, schedule.decided_until,
                )  # fmt: skip
                schedule = ScheduleState(entry.name, now)
                await import_schedules.decide(connection, entry.name, now)
            until = await _decide_one(connection, entry, schedule, now, is_paused=entry.name in paused)
            assert entry.due is not None  # noqa: S101  # only such entries are planned
            if following := entry.due.after(until):
                wake = min(wake, following)
    if len(locked) < len(entries):
        wake = min(wake, now + timedelta(seconds=LOCKED_POLL_INTERVAL))
    return wake


async def _decide_one(
    connection: Connection, entry: ImportEntry, schedule: ScheduleState, now: datetime, *, is_paused: bool
) -> datetime:
    """Decide what has become due since the schedule was last decided; return until when it is decided now.

    What the schedule was then does not matter: two beats whose files differ both go on from there. What becomes due
    while the import is paused has no run, and nothing makes up for it.
    """
    last = entry.due.until(now) if entry.due else None
    if last is None or last <= schedule.decided_until:
        return schedule.decided_until
    run_id = import_runs.scheduled_run_id(entry.name, last)
    if is_paused:
        logger.info("imports: %s is paused: no run of %s", entry.name, last)
    elif now - last <= MISFIRE_GRACE_TIME or entry.misfire == "once":
        await open_runs.add_scheduled(connection, run_id, entry.name, last, entry.content)
    else:
        first = entry.due.after(schedule.decided_until) if entry.due else None
        error = f"no beat ran when this was due, from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC"
        await import_runs.add_misfire(connection, run_id, entry.name, last, entry.content, error)
    await import_schedules.decide(connection, entry.name, last)
    return last
