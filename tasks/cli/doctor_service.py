"""Checks of the running service for `doctor`: relay, beat, Flower, backlog, dead letters and imports."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException

from pattern_storage.config.flower_roles import logins
from pattern_storage.config.settings import Settings
from pattern_storage.storage import dead_letters, import_health, outbox, pauses
from pattern_storage.storage.errors import StorageError
from pattern_storage.storage.explanation import one_line
from pattern_storage.storage.import_health import ImportHealth
from pattern_storage.storage.outbox import OutboxSize
from pattern_storage.storage.pauses import Pausable, Pause
from pattern_storage.storage.rows import Connection
from pattern_storage.tasks.cli import flower
from pattern_storage.tasks.cli.finding import Finding
from pattern_storage.tasks.cli.operator import query
from pattern_storage.tasks.cli.output import plural, utc
from pattern_storage.tasks.errors import ServiceUnavailable
from pattern_storage.tasks.imports.plan.imports_file import ImportsFileInvalid, load_entries
from pattern_storage.tasks.operate.queues import QueueDepth, depths, redis_queues
from pattern_storage.tasks.queue_names import LONG

#: Seconds after which an unpublished job of the outbox, or beat's last look at the schedules, is late: beat sweeps the
#: outbox once a minute.
LATE = 120.0
#: Seconds that a job may wait in a queue before that is a backlog.
BACKLOG = 300.0


@dataclass(frozen=True)
class Bookkeeping:
    """What our tables in PostgreSQL say about the service."""

    dead_letters: int
    outbox: OutboxSize
    imports: list[ImportHealth]
    beat_age: float | None
    paused_queues: dict[str, Pause]
    paused_imports: dict[str, Pause]


def check_service(settings: Settings, served: Collection[str] | None) -> Iterator[Finding]:
    """Yield findings about what runs and what waits; a server that is down has a finding of its own already.

    `served` are the queues that a running worker takes from; None where that is not known.
    """
    if settings.imports_file is not None:
        try:
            load_entries(settings.imports_file)
        except ImportsFileInvalid as error:
            yield Finding("imports file", False, one_line(str(error)), "beat plans by it, once it is right")
    tables = None
    with suppress(StorageError):
        tables = query(_read, settings)
    if tables is not None:
        yield _relay(tables.outbox)
        yield _beat(tables.beat_age)
        yield _dead_letters(tables.dead_letters)
        yield from _imports(settings, tables)
    paused = tables.paused_queues if tables else {}
    with suppress(ServiceUnavailable):
        found = depths(settings, paused, seconds=LONG)
        for depth in found:
            yield _queue(depth, paused.get(depth.name), served is None or depth.name in served)
        yield from _refused(settings, {*(depth.name for depth in found), *(served or ())})
    if logins(settings):
        yield _flower(settings)


async def _read(connection: Connection) -> Bookkeeping:
    return Bookkeeping(
        dead_letters=await dead_letters.count(connection),
        outbox=await outbox.measure(connection),
        imports=await import_health.measure(connection),
        beat_age=await import_health.schedules_age(connection),
        paused_queues=await pauses.paused(connection, Pausable.QUEUE),
        paused_imports=await pauses.paused(connection, Pausable.IMPORT),
    )


def _relay(size: OutboxSize) -> Finding:
    late = size.age > LATE
    found = f"{plural(size.jobs, 'job')} in the outbox" + (
        (f", one unpublished for {size.age:,.0f} s" if size.age else ", none of the unpublished ones is due yet")
        if size.unpublished
        else ""
    )
    return Finding("relay", not late, found, "start one: 'pattern-storage relay', or a beat" if late else "")


def _beat(age: float | None) -> Finding:
    if age is None:
        return Finding("beat", True, "not known: without scheduled imports a beat leaves no trace")
    late = age > LATE
    return Finding(
        "beat", not late, f"looked at the schedules {age:,.0f} s ago",
        "start one: 'celery -A pattern_storage beat'" if late else "",
    )  # fmt: skip


def _dead_letters(count: int) -> Finding:
    advice = "'pattern-storage dead-letters list', then replay or discard them" if count else ""
    return Finding("dead letters", not count, f"{count:,}" if count else "none", advice)


def _imports(settings: Settings, tables: Bookkeeping) -> Iterator[Finding]:
    for each in tables.imports:
        if each.failed:
            advice = f"'pattern-storage imports history {each.name}' says why"
            yield Finding(f"import {each.name}", False, "its last run failed", advice)
        if each.open > settings.import_time_limit:
            advice = f"is there a worker for the queue imports? 'pattern-storage imports stop {each.name}' ends it"
            yield Finding(f"import {each.name}", False, f"a run is open for {each.open:,.0f} s", advice)
    count = sum(1 for each in tables.imports if each.open)
    paused = f", paused: {', '.join(tables.paused_imports)}" if tables.paused_imports else ""
    yield Finding("imports", True, f"{plural(count, 'open run')}{paused}")


def _queue(depth: QueueDepth, pause: Pause | None, is_served: bool) -> Finding:
    subject, found = (
        f"queue {depth.name}",
        f"{plural(depth.waiting, 'job')} {'waits' if depth.waiting == 1 else 'wait'}",
    )
    if pause is not None:
        found = f"paused by {pause.paused_by} since {utc(pause.paused_at)} UTC, {found}"
        advice = f"'pattern-storage queues resume {depth.name}'" if depth.waiting else ""
        return Finding(subject, not depth.waiting, found, advice)
    age = 0.0
    if depth.oldest_at is not None:
        age = (datetime.now(UTC) - depth.oldest_at).total_seconds()
        found += f", the oldest for {age:,.0f} s"
    if depth.waiting and not is_served:
        advice = f"start one: 'celery -A pattern_storage worker -Q {depth.name}'"
        return Finding(subject, False, f"{found}, and no worker that answers takes from it", advice)
    late = age > BACKLOG
    return Finding(subject, not late, found, "start more workers, or look at what they do" if late else "")


def _refused(settings: Settings, queues: Iterable[str]) -> Iterator[Finding]:
    if not settings.broker_kind.is_redis:
        yield Finding("refused messages", True, "not known: RabbitMQ drops them without a dead letter exchange")
        return
    with redis_queues(settings) as broker:
        for key, count in broker.refused(sorted(queues)).items():
            found = f"{plural(count, 'message')} in the Redis list {one_line(key)}"
            advice = "the worker's log says why, and docs/errors.md how to send them again"
            yield Finding("refused messages", False, found, advice)


def _flower(settings: Settings) -> Finding:
    address = flower.address(settings)
    try:
        flower.workers(settings, timeout=settings.connect_timeout)
    except (OSError, HTTPException, ValueError) as error:
        return Finding("Flower", False, f"does not answer at {address}: {error}", "start it: 'celery flower', or 'up'")
    return Finding("Flower", True, f"answers at {address}")
