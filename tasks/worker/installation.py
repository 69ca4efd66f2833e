"""The remote control command `installation`: tells `pattern-storage doctor` whose tables this worker writes.

Workers of two installations on one broker without prefixes of their own take each other's jobs, and nothing fails.
"""

from contextlib import suppress
from typing import Any

from celery.worker.control import inspect_command

from pattern_storage.storage import installation
from pattern_storage.storage.installation import Installation
from pattern_storage.storage.operations.base import Connection

#: Of this process, as the last connection to PostgreSQL found it.
_found: list[Installation | None] = [None]


async def learn(connection: Connection) -> None:
    """Find out once more; a role that may not ask, or a server that is away, leaves what was known."""
    with suppress(Exception):
        _found[0] = await installation.find(connection)


@inspect_command(name=installation.COMMAND)
def tell(_: Any) -> list[str] | None:
    """Return server, database and schema of the tables that this worker writes, None as long as it does not know."""
    return None if _found[0] is None else list(_found[0])
