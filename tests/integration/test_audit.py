"""What operators set and did: pauses are kept, and the audit remembers."""

from typing import Any

import psycopg

from pattern_storage.storage import (
    audit,
    pauses,
)
from pattern_storage.storage.pauses import Pausable

Connection = psycopg.AsyncConnection[Any]


async def test_pauses_are_kept(connection: Connection) -> None:
    assert await pauses.pause(connection, Pausable.QUEUE, "batch", actor="ann")
    assert not await pauses.pause(connection, Pausable.QUEUE, "batch", actor="bob")
    assert await pauses.pause(connection, Pausable.IMPORT, "batch", actor="bob")
    found = await pauses.paused(connection, Pausable.QUEUE)
    assert {name: pause.paused_by for name, pause in found.items()} == {"batch": "ann"}
    assert await pauses.resume(connection, Pausable.QUEUE, "batch")
    assert not await pauses.resume(connection, Pausable.QUEUE, "batch")
    assert set(await pauses.paused(connection, Pausable.IMPORT)) == {"batch"}


async def test_the_audit_remembers(connection: Connection) -> None:
    for number in range(5):
        await audit.record(connection, "ann" if number % 2 else "bob", "replay", {"error_type": f"e{number}"}, number)
    newest = await audit.entries(connection, limit=2)
    assert [(entry.actor, entry.filter, entry.count) for entry in newest] == [
        ("bob", {"error_type": "e4"}, 4), ("ann", {"error_type": "e3"}, 3),
    ]  # fmt: skip
    older = await audit.entries(connection, before=newest[-1].id, actor="bob", action="replay")
    assert [entry.count for entry in older] == [2, 0]
