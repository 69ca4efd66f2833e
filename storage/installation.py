"""Identity of an installation: the server, the database and the schema of its tables."""

from typing import NamedTuple

from pattern_storage.storage.rows import Connection, fetch_one
from pattern_storage.storage.sql import block


class Installation(NamedTuple):
    """Server (as PostgreSQL numbers itself when it is made; replicas have the same), database and schema."""

    server: str
    database: str
    schema: str


async def find(connection: Connection) -> Installation | None:
    """Return the installation whose tables the connection uses; None where there are none."""
    row = await fetch_one(connection, block("find_installation"))
    return None if row is None or None in row else Installation(*row)
