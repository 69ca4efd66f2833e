"""Pauses: queues that no worker takes from, and imports that beat does not start, until they are resumed."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from psycopg.rows import class_row

from pattern_storage.storage.rows import Connection, fetch_all, fetch_one
from pattern_storage.storage.sql import block


class Pausable(StrEnum):
    """Kinds of what can be paused: the column `pauses.kind`."""

    QUEUE = "queue"
    IMPORT = "import"


@dataclass(frozen=True)
class Pause:
    """A paused queue or import, since when, and by whom."""

    name: str
    paused_at: datetime
    paused_by: str


async def pause(connection: Connection, kind: Pausable, name: str, *, actor: str) -> bool:
    """Pause a queue or an import; return whether it was not paused before."""
    values = {"kind": kind, "name": name, "actor": actor}
    return await fetch_one(connection, block("add_pause"), values) is not None


async def resume(connection: Connection, kind: Pausable, name: str) -> bool:
    """Resume a queue or an import; return whether it was paused."""
    return await fetch_one(connection, block("remove_pause"), {"kind": kind, "name": name}) is not None


async def paused(connection: Connection, kind: Pausable) -> dict[str, Pause]:
    """Return the pauses of a kind, by name."""
    pauses = await fetch_all(connection, class_row(Pause), block("list_pauses"), {"kind": kind})
    return {pause.name: pause for pause in pauses}
