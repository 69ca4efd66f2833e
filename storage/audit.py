"""The audit: who did what to which jobs, queues and imports, and when. Entries are added and never changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from pattern_storage.storage.rows import Connection, fetch_all
from pattern_storage.storage.sql import block


@dataclass(frozen=True)
class AuditEntry:
    """An action: its actor, its target (ids, a name or a filter), and how many jobs it changed."""

    id: int
    at: datetime
    actor: str
    action: str
    filter: dict[str, Any]
    count: int


async def record(connection: Connection, actor: str, action: str, about: Mapping[str, Any], count: int) -> None:
    """Record an action, in the caller's transaction."""
    values = {"actor": actor, "action": action, "filter": Jsonb(dict(about)), "count": count}
    await connection.execute(block("add_audit_entry"), values)


async def entries(
    connection: Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[AuditEntry]:
    """Return entries, the newest first: of one actor or all, of one action or all, older than the entry `before`."""
    values = {"actor": actor, "action": action, "before": before, "limit": limit}
    return await fetch_all(connection, class_row(AuditEntry), block("list_audit_entries"), values)
