"""Checks of the running service for `doctor`: relay, beat, Flower, backlog, dead letters and imports."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException

from pattern_storage.config.flower_roles import logins
from pattern_storage.config.settings import Settings
from pattern_storage.storage import dead_letters, import_health, outbox, pauses
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.import_health import ImportHealth
from pattern_storage.storage.outbox import OutboxSize
from pattern_storage.storage.pauses import Pausable, Pause
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.cli import flower
from pattern_storage.tasks.cli.doctor_postgresql import Finding
from pattern_storage.tasks.database import Database, run_sync
from pattern_storage.tasks.errors import ServiceUnavailable
from pattern_storage.tasks.operate.queues import QueueDepth, depths
from pattern_storage.tasks.queue_names import LONG

#: Seconds after which a job of the outbox, or a look of beat, is late: beat sweeps the outbox once a minute.
LATE = 120.0
#: Seconds after which what waits in a queue is a backlog.
BACKLOG = 300.0


@dataclass(frozen=True)
class Books:
    """What PostgreSQL says of the service."""

    letters: int
    outbox: OutboxSize
    imports: list[ImportHealth]
    beat_age: float | None
    queues: dict[str, Pause]
    paused_imports: dict[str, Pause]


def check_service(settings: Settings) -> Iterator[Finding]:
    """Yield findings about what runs and what waits; of a server that is down the other checks tell."""
    books = None
    with suppress(StorageError):
        books = run_sync(Database(settings).run(_read))
    if books is not None:
        yield _relay(books.outbox)
        yield _beat(books.beat_age)
        yield from _letters(books.letters)
        yield from _imports(settings, books)
    try:
        found = depths(settings, books.queues if books else (), seconds=LONG)
    except ServiceUnavailable:
        found = []
    for depth in found:
        yield _backlog(depth, books.queues.get(depth.name) if books else None)
    if logins(settings):
        yield _flower(settings)


async def _read(connection: Connection) -> Books:
    return Books(
        letters=await dead_letters.count(connection),
        outbox=await outbox.measure(connection),
        imports=await import_health.measure(connection),
        beat_age=await import_health.schedules_age(connection),
        queues=await pauses.paused(connection, Pausable.QUEUE),
        paused_imports=await pauses.paused(connection, Pausable.IMPORT),
    )


def _relay(size: OutboxSize) -> Finding:
    late = size.age > LATE
    found = f"{_plural(size.jobs, 'job')} in the outbox" + (
        (f", one unpublished for {size.age:,.0f} s" if size.age else ", none of the unpublished ones is due yet")
        if size.unpublished
        else ""
    )
    return Finding("relay", not late, found, "start one: 'pattern-storage relay', or a beat" if late else "")


def _beat(age: float | None) -> Finding:
    if age is None:
        return Finding("beat", True, "no import is scheduled, which would tell")
    late = age > LATE
    return Finding(
        "beat", not late, f"looked at the schedules {age:,.0f} s ago",
        "start one: 'celery -A pattern_storage beat'" if late else "",
    )  # fmt: skip


def _letters(count: int) -> Iterator[Finding]:
    advice = "'pattern-storage dead-letters list', then replay or discard them" if count else ""
    yield Finding("dead letters", not count, f"{count:,}" if count else "none", advice)


def _imports(settings: Settings, books: Books) -> Iterator[Finding]:
    for each in books.imports:
        if each.failed:
            advice = f"'pattern-storage imports history {each.name}' says why"
            yield Finding(f"import {each.name}", False, "its last run failed", advice)
        if each.open > settings.import_time_limit:
            advice = f"is there a worker for the queue imports? 'pattern-storage imports stop {each.name}' ends it"
            yield Finding(f"import {each.name}", False, f"a run is open for {each.open:,.0f} s", advice)
    count = sum(1 for each in books.imports if each.open)
    paused = f", paused: {', '.join(books.paused_imports)}" if books.paused_imports else ""
    yield Finding("imports", True, f"{_plural(count, 'open run')}{paused}")


def _backlog(depth: QueueDepth, pause: Pause | None) -> Finding:
    subject = f"queue {depth.name}"
    if pause is not None:
        since = f"{pause.paused_at:%Y-%m-%d %H:%M} UTC"
        found = f"paused by {pause.paused_by} since {since}, {_waiting(depth)}"
        advice = f"'pattern-storage queues resume {depth.name}'" if depth.waiting else ""
        return Finding(subject, not depth.waiting, found, advice)
    age = 0.0 if depth.oldest_at is None else (datetime.now(UTC) - depth.oldest_at).total_seconds()
    late = age > BACKLOG
    found = _waiting(depth) + (f", the oldest for {age:,.0f} s" if depth.oldest_at else "")
    return Finding(subject, not late, found, "start more workers, or look at what they do" if late else "")


def _waiting(depth: QueueDepth) -> str:
    return f"{_plural(depth.waiting, 'job')} {'waits' if depth.waiting == 1 else 'wait'}"


def _plural(count: int, one: str) -> str:
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def _flower(settings: Settings) -> Finding:
    address = flower.address(settings)
    try:
        flower.workers(settings, timeout=settings.connect_timeout)
    except (OSError, HTTPException, ValueError) as error:
        return Finding("Flower", False, f"does not answer at {address}: {error}", "start it: 'celery flower', or 'up'")
    return Finding("Flower", True, f"answers at {address}")
