"""Table `import_schedules`: up to when each schedule's due times have been decided, by any beat."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row, tuple_row

from pattern_storage.storage.rows import Connection, fetch_all, fetch_value
from pattern_storage.storage.sql import block


@dataclass(frozen=True)
class ScheduleState:
    """Up to when the due times of a schedule have been decided."""

    name: str
    decided_until: datetime


async def server_time(connection: Connection) -> datetime:
    """Return PostgreSQL's time, on which beats of several hosts agree."""
    time: datetime = await fetch_value(connection, block("server_time"))
    return time


async def lock(connection: Connection, names: Sequence[str], now: datetime) -> list[ScheduleState]:
    """Lock these schedules in the caller's transaction; one that is new is decided up to `now`.

    Schedules that another beat has locked are left out; the others record that a beat looks at them.
    """
    await connection.execute(block("add_schedules"), {"names": list(names), "now": now})
    locked = await fetch_all(connection, class_row(ScheduleState), block("lock_schedules"), {"names": list(names)})
    await connection.execute(block("look_at_schedules"), {"names": [schedule.name for schedule in locked]})
    return locked


async def decide(connection: Connection, name: str, until: datetime) -> None:
    """Record up to when a schedule has been decided."""
    await connection.execute(block("decide_schedule"), {"name": name, "until": until})


async def forget(connection: Connection, *, except_for: Iterable[str]) -> None:
    """Delete all schedules but these: one that comes back later starts anew and has no misfires."""
    await connection.execute(block("forget_schedules"), {"names": list(except_for)})


async def decided(connection: Connection) -> dict[str, datetime]:
    """Return up to when each schedule that beat follows has been decided, by name."""
    return dict(await fetch_all(connection, tuple_row, block("list_decided")))
