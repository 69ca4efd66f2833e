"""Database roles: the owner of the tables migrates them, a service role may only use them."""

import psycopg
from psycopg.sql import SQL, Identifier

from pattern_storage.storage import schema
from pattern_storage.storage.rows import Connection, fetch_value
from pattern_storage.storage.setup_errors import RoleUnknown
from pattern_storage.storage.sql import block
from pattern_storage.storage.translation import translate


def grant(database_url: str, role: str) -> None:
    """Give a role the rights that services need, as the owner of the tables. Run it again after each migration.

    Raises RoleUnknown, or another StorageError.
    """
    try:
        with schema.connect(database_url) as connection:
            row = connection.execute(block("role_exists"), {"role": role}).fetchone()
            assert row is not None  # noqa: S101  # it has no FROM
            if not row[0]:
                raise RoleUnknown(role)
            names = {"role": Identifier(role), "schema": Identifier(row[1])}
            connection.execute(SQL(block("grant_rights")).format(**names))
    except psycopg.Error as error:
        raise translate(error) from error


async def can_write(connection: Connection) -> bool:
    """Whether this connection can execute jobs: not to a standby, not read-only, not without the rights."""
    return bool(await fetch_value(connection, block("can_write")))
